//! What any operator relies on, shown to work on the node: pods, names, volumes, sidecars, Jobs, messages, images.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, PersistentVolumeClaim, Pod};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::company::Company;
use crate::house::{Space, Test, phase, tests};

pub(crate) const TESTS: &[Test] = tests![Company::Welcome;
    a_pod_reaches_a_service_by_its_name,
    two_pods_share_a_volume,
    a_native_sidecar_starts_first_and_does_not_hold_up_the_end,
    an_indexed_job_runs_each_index_once,
    a_termination_message_and_its_exit_code_are_reported,
    a_pod_reaches_a_server_on_this_machine,
    a_restricted_pod_is_admitted_and_runs_where_restricted_is_enforced,
];

async fn a_pod_reaches_a_service_by_its_name(space: Space) -> Result<()> {
    space
        .apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: greeter, labels: {app: greeter}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: greeter
      image: localhost/busybox:1
      command: [sh, -c, "echo hello from $(hostname) >/tmp/index.html && exec httpd -f -p 8080 -h /tmp"]
      readinessProbe: {httpGet: {path: /index.html, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: greetings}
spec: {selector: {app: greeter}, ports: [{port: 80, targetPort: 8080}]}
"#,
        )
        .await?;
    space.wait_for("greeter", |pod: Option<&Pod>| is_ready(pod)).await?;
    // The proxy follows a Service within moments, not at once: the caller tries again, as any client does.
    let call = format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: caller}}
spec:
  restartPolicy: Never
  containers:
    - name: caller
      image: localhost/busybox:1
      command:
        - sh
        - -c
        - |
          for attempt in 1 2 3 4 5 6 7 8 9 10; do
            fetch="timeout 2 wget -q -O -"
            $fetch http://greetings/ && $fetch http://greetings.{}.svc.cluster.local/ && exit 0
            sleep 1
          done
          exit 1
"#,
        space.namespace
    );
    space.apply(&call).await?;
    let output = space.output_of("caller").await?;
    ensure!(output.matches("hello from greeter").count() >= 2, "it said {output:?}");
    Ok(())
}

async fn two_pods_share_a_volume(space: Space) -> Result<()> {
    space
        .apply(
            r"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
",
        )
        .await?;
    let bound = |claim: Option<&PersistentVolumeClaim>| {
        claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref()).is_some_and(|phase| phase == "Bound")
    };
    space.wait_for("shared", bound).await?;
    // Each waits for what the other writes: neither can end without the other running on the same files.
    for (own, other) in [("ping", "pong"), ("pong", "ping")] {
        let pod = format!(
            r"
apiVersion: v1
kind: Pod
metadata: {{name: {own}}}
spec:
  restartPolicy: Never
  securityContext: {{runAsUser: 65532, runAsGroup: 65532}}
  containers:
    - name: {own}
      image: localhost/busybox:1
      command:
        - sh
        - -c
        - |
          echo {own} >/shared/{own}
          for attempt in $(seq 100); do
            [ -s /shared/{other} ] && exec cat /shared/{other}
            sleep 1
          done
          exit 1
      volumeMounts: [{{name: shared, mountPath: /shared}}]
  volumes: [{{name: shared, persistentVolumeClaim: {{claimName: shared}}}}]
"
        );
        space.apply(&pod).await?;
    }
    ensure!(space.output_of("ping").await?.trim() == "pong");
    ensure!(space.output_of("pong").await?.trim() == "ping");
    Ok(())
}

async fn a_native_sidecar_starts_first_and_does_not_hold_up_the_end(space: Space) -> Result<()> {
    space
        .apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: pair}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 10
  initContainers:
    - name: sidecar
      image: localhost/busybox:1
      restartPolicy: Always
      command: [sh, -c, "trap 'exit 0' TERM; touch /common/open; while :; do sleep 1 & wait; done"]
      startupProbe: {exec: {command: [test, -e, /common/open]}, periodSeconds: 1}
      volumeMounts: [{name: common, mountPath: /common}]
  containers:
    - name: main
      image: localhost/busybox:1
      command: [ls, /common/open]
      volumeMounts: [{name: common, mountPath: /common}]
  volumes: [{name: common, emptyDir: {}}]
"#,
        )
        .await?;
    space.output_of("pair").await?;
    let pod = space.api::<Pod>().get("pair").await?;
    let status = pod.status.context("a pod that ended has a status")?;
    let sidecars = status.init_container_statuses.unwrap_or_default();
    let sidecar = sidecars.first().context("the sidecar has a status")?;
    ensure!(sidecar.restart_count == 0, "the sidecar was started again: {sidecar:?}");
    let end = sidecar.state.as_ref().and_then(|state| state.terminated.as_ref()).map(|end| end.exit_code);
    ensure!(end == Some(0), "the sidecar was not asked to end, but ended by {end:?}");
    Ok(())
}

async fn an_indexed_job_runs_each_index_once(space: Space) -> Result<()> {
    space
        .apply(
            r#"
apiVersion: batch/v1
kind: Job
metadata: {name: indexes}
spec:
  completions: 3
  parallelism: 3
  completionMode: Indexed
  backoffLimitPerIndex: 1
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: index
          image: localhost/busybox:1
          command: [sh, -c, "echo $JOB_COMPLETION_INDEX >/dev/termination-log"]
"#,
        )
        .await?;
    let ended =
        |job: Option<&Job>| job.is_some_and(|job| has_condition(job, "Complete") || has_condition(job, "Failed"));
    let job = space.wait_for("indexes", ended).await?;
    ensure!(has_condition(&job, "Complete"), "{:?}", job.status);
    let completed = job.status.as_ref().and_then(|status| status.completed_indexes.as_deref());
    ensure!(completed == Some("0-2"), "completed {completed:?}");
    let pods = space.api::<Pod>().list(&kube::api::ListParams::default().labels("job-name=indexes")).await?;
    let mut messages: Vec<String> = pods.iter().filter_map(|pod| end_of(pod)?.message.clone()).collect();
    messages.sort();
    ensure!(messages == ["0\n", "1\n", "2\n"], "{messages:?}");
    Ok(())
}

async fn a_termination_message_and_its_exit_code_are_reported(space: Space) -> Result<()> {
    space
        .apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: last-words}
spec:
  restartPolicy: Never
  containers:
    - name: speaker
      image: localhost/busybox:1
      command: [sh, -c, "printf 'the field is wrong' >/dev/termination-log; exit 10"]
"#,
        )
        .await?;
    let pod = space.wait_for("last-words", |pod: Option<&Pod>| phase(pod) == "Failed").await?;
    let end = end_of(&pod).context("a container that ended says how")?;
    ensure!(end.exit_code == 10, "{end:?}");
    ensure!(end.message.as_deref() == Some("the field is wrong"), "{end:?}");
    Ok(())
}

async fn a_pod_reaches_a_server_on_this_machine(space: Space) -> Result<()> {
    let host = space.cluster().await?.host_ip().context("the address of this machine is not known")?;
    let listener = TcpListener::bind("0.0.0.0:0").await?;
    let port = listener.local_addr()?.port();
    let serve = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await?;
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhere I am\n").await
    });
    space
        .apply(&format!(
            r"
apiVersion: v1
kind: Pod
metadata: {{name: caller}}
spec:
  restartPolicy: Never
  containers:
    - name: caller
      image: localhost/busybox:1
      command: [timeout, '20', wget, -q, -O, '-', 'http://{host}:{port}/']
"
        ))
        .await?;
    let output = space.output_of("caller").await?;
    serve.await??;
    ensure!(output.trim() == "here I am", "it said {output:?}");
    Ok(())
}

async fn a_restricted_pod_is_admitted_and_runs_where_restricted_is_enforced(space: Space) -> Result<()> {
    let label = format!("namespace/{}", space.namespace);
    space.cluster().await?.kubectl(["label", &label, "pod-security.kubernetes.io/enforce=restricted"]).await?;
    let pod = |name: &str, context: &str| {
        format!(
            r"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  containers:
    - name: main
      image: localhost/busybox:1
      command: [id, -u]
      securityContext: {context}
"
        )
    };
    let refused = space.apply(&pod("careless", "{}")).await;
    ensure!(
        refused.is_err_and(|error| error.to_string().contains("violates PodSecurity")),
        "a careless pod was admitted"
    );
    let careful = "{runAsUser: 65532, runAsNonRoot: true, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, \
                   capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}";
    space.apply(&pod("careful", careful)).await?;
    ensure!(space.output_of("careful").await?.trim() == "65532");
    Ok(())
}

fn is_ready(pod: Option<&Pod>) -> bool {
    let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"))
}

fn has_condition(job: &Job, kind: &str) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|condition| condition.type_ == kind && condition.status == "True"))
}

fn end_of(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.first()?.state.as_ref()?.terminated.as_ref()
}
