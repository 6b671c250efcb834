//! The operator's pods as the chart makes them: hardened, told by flags that the program has, and from the images that were asked for.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use libtest_mimic::Trial;
use sera_e2e::images::{Image, program};
use serde_json::{Value, json};

use crate::Host;
use crate::house::{Chart, House, NAMESPACE, RELEASE, texts};

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(crate) fn trials(host: &Host) -> Vec<Trial> {
    vec![
        host.trial("the operator's pod is admitted where the restricted Pod Security level is enforced", restricted),
        host.trial("the operator's container has a read-only root and no privileges to gain", hardened),
        host.trial("the operator takes every flag that the chart gives it", flags_exist),
        host.trial("the probes and the Service meet the port that is listened on", ports_meet),
        host.trial("one registry replaces that of every image", one_registry),
        host.trial("a digest is pulled instead of a tag", digest_over_tag),
        host.trial(
            "the operator is told whether the trainer's image is built for GPUs, which it is not by default",
            gpus,
        ),
        host.trial("run defaults reach the operator's file, and new ones start new pods", run_defaults),
        host.trial("a single replica has no disruption budget to stand in a drain's way", no_budget_for_one),
        host.trial("the network policy names the API server's addresses where they are given", network_policy),
        host.trial("the rules of the runs' network reach the operator's file, and can be left out", network_rules),
        host.trial("traces go where an endpoint is named, past the network policy, and nowhere by default", traces),
        host.trial(
            "the Lease of the election is the chart's, with nothing in it that an upgrade would write over",
            lease,
        ),
        host.trial("scheduling, labels and pull secrets reach the pod", pod_settings),
    ]
}

async fn restricted(house: &House) -> Result<()> {
    let deployment = house.render(Chart::Operator, &json!({})).await?.one("Deployment")?.clone();
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["name"] = json!("operator");
    template["apiVersion"] = json!("v1");
    template["kind"] = json!("Pod");
    admitted_as_restricted(house, template).await
}

/// Has the API server judge a pod, in a namespace where it must be restricted.
pub(crate) async fn admitted_as_restricted(house: &House, mut pod: Value) -> Result<()> {
    let name = pod["metadata"]["name"].as_str().context("a pod with a name")?.to_owned();
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let namespace = house.namespace(&format!("restricted-{name}"), &labels).await?;
    pod["metadata"]["namespace"] = json!(namespace);
    pod["spec"]["serviceAccountName"] = json!("default");
    let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod)?;
    let pods = kube::Api::namespaced(house.client(), &namespace);
    // The namespace's default account is made a moment after it.
    let admitted = async {
        loop {
            match pods.create(&kube::api::PostParams { dry_run: true, ..Default::default() }, &pod).await {
                Err(kube::Error::Api(status)) if status.message.contains("serviceaccount \"default\" not found") => {
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
                answer => return answer,
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), admitted).await??;
    Ok(())
}

/// The pod's template and its one container.
async fn pod_of(house: &House, values: &Value) -> Result<(Value, Value)> {
    let deployment = house.render(Chart::Operator, values).await?.one("Deployment")?.clone();
    let template = deployment["spec"]["template"].clone();
    let containers = template["spec"]["containers"].as_array().context("there are containers")?;
    ensure!(
        containers.len() == 1 && template["spec"]["initContainers"].is_null(),
        "the pod has more than one container"
    );
    Ok((template.clone(), containers[0].clone()))
}

async fn hardened(house: &House) -> Result<()> {
    let (template, container) = pod_of(house, &json!({})).await?;
    let (pod, own) = (&template["spec"]["securityContext"], &container["securityContext"]);
    ensure!(own["readOnlyRootFilesystem"] == json!(true), "the root is writable: {own}");
    ensure!(own["allowPrivilegeEscalation"] == json!(false), "privileges can be gained: {own}");
    ensure!(own["capabilities"] == json!({"drop": ["ALL"]}), "capabilities are left: {own}");
    ensure!(pod["runAsNonRoot"] == json!(true) && pod["runAsUser"] == json!(65532), "the user is {pod}");
    ensure!(pod["seccompProfile"]["type"] == "RuntimeDefault", "the seccomp profile is {pod}");
    ensure!(!container["resources"]["limits"]["memory"].is_null(), "memory has no limit");
    Ok(())
}

async fn flags_exist(house: &House) -> Result<()> {
    let values = json!({
        "watchNamespaces": ["ml", "research"],
        "logging": {"level": "info,kube_client=debug"},
        "traces": {"endpoint": "http://otel-collector.monitoring:4318"},
        "runDefaults": {"store": "s3://acme-ml/sera"},
        "runNetworkPolicy": {"outside": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
    });
    let rendered = house.render(Chart::Operator, &values).await?;
    let mounted = tempfile::tempdir()?;
    for (name, content) in rendered.one("ConfigMap")?["data"].as_object().context("there are files")? {
        std::fs::write(mounted.path().join(name), content.as_str().context("a file")?)?;
    }
    let container = &rendered.one("Deployment")?["spec"]["template"]["spec"]["containers"][0];
    let folder = format!("={}/", mounted.path().display());
    let arguments: Vec<String> =
        texts(&container["args"]).into_iter().map(|argument| argument.replace("=/etc/sera/", &folder)).collect();
    let program = program(Image::Operator)?;
    // With --help at the end every flag before it is parsed, value and all, and nothing is started.
    let output = Command::new(&program).args(arguments).arg("--help").output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} refuses the chart's flags: {complaint}", program.display());
    let unknown = Command::new(&program).args(["--no-such-flag", "--help"]).output()?;
    ensure!(!unknown.status.success(), "this test cannot fail: {} takes any flag", program.display());
    Ok(())
}

async fn ports_meet(house: &House) -> Result<()> {
    let rendered = house.render(Chart::Operator, &json!({"metrics": {"serviceMonitor": {"enabled": true}}})).await?;
    let container = &rendered.one("Deployment")?["spec"]["template"]["spec"]["containers"][0];
    let port = &container["ports"][0];
    ensure!(
        texts(&container["args"]).contains(&format!("--listen=0.0.0.0:{}", port["containerPort"]).as_str()),
        "{container}"
    );
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let asked = &container[probe]["httpGet"];
        ensure!(asked["port"] == port["name"] && asked["path"] == path, "{probe} asks {asked}");
    }
    let service = rendered.one("Service")?;
    ensure!(service["spec"]["ports"][0]["targetPort"] == port["name"], "the Service leads to {service}");
    let labels = &rendered.one("Deployment")?["spec"]["template"]["metadata"]["labels"];
    for (object, selector) in [("Service", "/spec/selector"), ("NetworkPolicy", "/spec/podSelector/matchLabels")] {
        for (key, value) in rendered.one(object)?.pointer(selector).and_then(Value::as_object).context("a selector")? {
            ensure!(labels[key] == *value, "the {object} selects {key}={value}, which the pods have not");
        }
    }
    let monitor = rendered.one("ServiceMonitor")?;
    ensure!(monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"], "{monitor}");
    Ok(())
}

/// The image that a flag names, such as `--rollout-image=`.
fn image_of<'a>(container: &'a Value, flag: &str) -> Option<&'a str> {
    texts(&container["args"]).into_iter().find_map(|argument| argument.strip_prefix(flag))
}

async fn one_registry(house: &House) -> Result<()> {
    let (_, container) =
        pod_of(house, &json!({"global": {"imageRegistry": "registry.acme.internal:5000/mirror"}})).await?;
    let named =
        ["--rollout-image=", "--sandbox-image=", "--environment-image=", "--teacher-image=", "--trainer-image="]
            .map(|flag| image_of(&container, flag));
    ensure!(named[1] != named[2], "commands would run in an image without a shell: {container}");
    for image in [container["image"].as_str()].into_iter().chain(named) {
        let image = image.context("an image")?;
        ensure!(image.starts_with("registry.acme.internal:5000/mirror/sera-dev/sera-"), "{image} comes from elsewhere");
    }
    for (flag, expected) in [("--vllm-image=", "vllm/vllm-openai:v"), ("--sglang-image=", "lmsysorg/sglang:v")] {
        let image = image_of(&container, flag).context("an engine's image")?;
        let from = format!("registry.acme.internal:5000/mirror/{expected}");
        ensure!(image.starts_with(&from), "{image} comes from elsewhere, or is of no release");
    }
    Ok(())
}

async fn digest_over_tag(house: &House) -> Result<()> {
    let images = json!({
        "operator": {"tag": "1", "digest": DIGEST}, "rollout": {"tag": "2"}, "environment": {"repository": "acme/env", "tag": "3"},
    });
    let (_, container) = pod_of(house, &json!({"images": images})).await?;
    let expected = format!("ghcr.io/sera-dev/sera-operator@{DIGEST}");
    ensure!(container["image"] == json!(expected), "{} is pulled", container["image"]);
    ensure!(image_of(&container, "--rollout-image=") == Some("ghcr.io/sera-dev/sera-rollout:2"), "{container}");
    ensure!(image_of(&container, "--environment-image=") == Some("ghcr.io/acme/env:3"), "{container}");
    Ok(())
}

async fn gpus(house: &House) -> Result<()> {
    let built = json!({"images": {"trainer": {"repository": "sera-dev/sera-trainer-cuda", "gpus": true}}});
    for (values, flag) in [(json!({}), "--trainer-gpus=off"), (built, "--trainer-gpus=on")] {
        let (_, container) = pod_of(house, &values).await?;
        ensure!(texts(&container["args"]).contains(&flag), "with {values}: {container}");
    }
    Ok(())
}

async fn run_defaults(house: &House) -> Result<()> {
    let defaults = json!({"imagePullSecrets": [{"name": "mirror"}]});
    let rendered = house.render(Chart::Operator, &json!({"runDefaults": defaults})).await?;
    let text = rendered.one("ConfigMap")?["data"]["run-defaults.yaml"].as_str().context("a file")?.to_owned();
    ensure!(serde_yaml::from_str::<Value>(&text)? == defaults, "the file holds {text}");
    let sum = |template: &Value| template["metadata"]["annotations"]["checksum/run-defaults"].clone();
    let (before, _) = pod_of(house, &json!({})).await?;
    let (after, container) = pod_of(house, &json!({"runDefaults": defaults})).await?;
    ensure!(sum(&before).is_string() && sum(&before) != sum(&after), "new defaults leave the pods as they are");
    let mounted = container["volumeMounts"][0]["mountPath"].as_str().context("a mount")?;
    let flag = format!("--run-defaults={mounted}/run-defaults.yaml");
    ensure!(texts(&container["args"]).contains(&flag.as_str()), "the operator is not given {flag}");
    Ok(())
}

async fn no_budget_for_one(house: &House) -> Result<()> {
    ensure!(
        house.render(Chart::Operator, &json!({})).await?.of("PodDisruptionBudget").len() == 1,
        "two replicas have no budget"
    );
    ensure!(
        house.render(Chart::Operator, &json!({"replicas": 1})).await?.of("PodDisruptionBudget").is_empty(),
        "one replica has a budget"
    );
    Ok(())
}

async fn network_policy(house: &House) -> Result<()> {
    let values = json!({"networkPolicy": {"apiServer": {"cidrs": ["10.0.0.1/32", "10.0.0.2/32"], "ports": [6443]}}});
    let policy = house.render(Chart::Operator, &values).await?.one("NetworkPolicy")?["spec"].clone();
    ensure!(policy["policyTypes"] == json!(["Ingress", "Egress"]), "{policy}");
    let to_server = &policy["egress"][1];
    ensure!(to_server["ports"] == json!([{"protocol": "TCP", "port": 6443}]), "{to_server}");
    ensure!(
        to_server["to"] == json!([{"ipBlock": {"cidr": "10.0.0.1/32"}}, {"ipBlock": {"cidr": "10.0.0.2/32"}}]),
        "{to_server}"
    );
    Ok(())
}

async fn network_rules(house: &House) -> Result<()> {
    let outside = json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]);
    let values =
        json!({"runNetworkPolicy": {"outside": outside}, "networkPolicy": {"metricsFrom": [{"podSelector": {}}]}});
    let rendered = house.render(Chart::Operator, &values).await?;
    let text = rendered.one("ConfigMap")?["data"]["network-rules.yaml"].as_str().context("there are rules")?;
    let rules: Value = serde_yaml::from_str(text)?;
    ensure!(rules["outside"] == outside, "{text}");
    let askers: Vec<NetworkPolicyPeer> = serde_json::from_value(rules["askers"].clone())?;
    ensure!(askers.len() == 2, "{text}");
    let operator = askers[0].pod_selector.clone().and_then(|pods| pods.match_labels).unwrap_or_default();
    let labels = &rendered.one("Deployment")?["spec"]["template"]["metadata"]["labels"];
    ensure!(
        !operator.is_empty() && operator.iter().all(|(key, value)| labels[key] == **value),
        "{operator:?}: {labels}"
    );

    let off = house.render(Chart::Operator, &json!({"runNetworkPolicy": {"enabled": false}})).await?;
    ensure!(off.one("ConfigMap")?["data"]["network-rules.yaml"].is_null(), "there are rules");
    let arguments = &off.one("Deployment")?["spec"]["template"]["spec"]["containers"][0]["args"];
    ensure!(!texts(arguments).iter().any(|argument| argument.contains("network-rules")), "{arguments}");
    Ok(())
}

async fn traces(house: &House) -> Result<()> {
    let sampler = json!({"name": "OTEL_TRACES_SAMPLER", "value": "traceidratio"});
    let addresses = [
        ("http://otel-collector.monitoring:4318", 4318),
        ("http://[fd00::7]:4319/otlp", 4319),
        ("http://[fd00::7]", 80),
        ("https://traces.acme.internal", 443),
    ];
    for (endpoint, port) in addresses {
        let collector = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]);
        let values =
            json!({"traces": {"endpoint": endpoint, "env": [sampler]}, "networkPolicy": {"tracesTo": collector}});
        let rendered = house.render(Chart::Operator, &values).await?;
        let container = &rendered.one("Deployment")?["spec"]["template"]["spec"]["containers"][0];
        let flag = format!("--otlp-endpoint={endpoint}");
        ensure!(texts(&container["args"]).contains(&flag.as_str()), "{container}");
        let variables = container["env"].as_array().context("variables")?;
        ensure!(variables.len() == 3 && variables.contains(&sampler), "{variables:?}");
        let egress = &rendered.one("NetworkPolicy")?["spec"]["egress"];
        let way = json!({"ports": [{"protocol": "TCP", "port": port}], "to": collector});
        ensure!(egress.as_array().is_some_and(|ways| ways.contains(&way)), "{way} is not in {egress}");
    }
    let (off, anywhere) = (json!({}), json!({"traces": {"endpoint": "http://otel-collector.monitoring:4318"}}));
    for (values, ways) in [(off, 3), (anywhere, 4)] {
        let rendered = house.render(Chart::Operator, &values).await?;
        let arguments = &rendered.one("Deployment")?["spec"]["template"]["spec"]["containers"][0]["args"];
        let named = texts(arguments).iter().any(|argument| argument.contains("otlp"));
        let egress = &rendered.one("NetworkPolicy")?["spec"]["egress"];
        ensure!(
            egress.as_array().is_some_and(|list| list.len() == ways) && named == (ways == 4),
            "{egress}: {arguments}"
        );
        ensure!(egress[3]["to"].is_null(), "{egress}");
    }
    Ok(())
}

async fn lease(house: &House) -> Result<()> {
    for (values, name) in [(json!({}), RELEASE), (json!({"leaderElection": {"leaseName": "mine"}}), "mine")] {
        let rendered = house.render(Chart::Operator, &values).await?;
        let lease = rendered.one("Lease")?;
        ensure!(lease["metadata"]["name"] == name && lease["metadata"]["namespace"] == NAMESPACE, "{lease}");
        ensure!(lease["spec"].is_null(), "its holder would be written over: {lease}");
        let arguments = &rendered.one("Deployment")?["spec"]["template"]["spec"]["containers"][0]["args"];
        for flag in [format!("--lease-name={name}"), format!("--lease-namespace={NAMESPACE}")] {
            ensure!(texts(arguments).contains(&flag.as_str()), "the operator is not told {flag}: {arguments}");
        }
    }
    Ok(())
}

async fn pod_settings(house: &House) -> Result<()> {
    let values = json!({
        "global": {"imagePullSecrets": [{"name": "mirror"}]},
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "priorityClassName": "platform",
        "runtimeClassName": "kata",
        "topologySpreadConstraints": [{"maxSkew": 3, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "podLabels": {"team": "platform"},
        "podAnnotations": {"note": "by hand"},
        "commonLabels": {"cost-centre": "ml"},
        "extraEnv": [{"name": "SSL_CERT_FILE", "value": "/ca/ca.crt"}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "acme-ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca", "readOnly": true}],
    });
    let (template, container) = pod_of(house, &values).await?;
    let (pod, metadata) = (&template["spec"], &template["metadata"]);
    let of_both = ["nodeSelector", "tolerations", "priorityClassName", "runtimeClassName"];
    for field in of_both.into_iter().chain(["affinity", "topologySpreadConstraints"]) {
        ensure!(pod[field] == values[field], "{field} is {}", pod[field]);
    }
    let test = house.render_test(&values).await?.one("Pod")?["spec"].clone();
    for field in of_both {
        ensure!(test[field] == values[field], "{field} of the self-test's pod is {}", test[field]);
    }
    ensure!(pod["imagePullSecrets"] == values["global"]["imagePullSecrets"], "{}", pod["imagePullSecrets"]);
    ensure!(metadata["labels"]["team"] == "platform" && metadata["labels"]["cost-centre"] == "ml", "{metadata}");
    ensure!(metadata["annotations"]["note"] == "by hand", "{metadata}");
    let places = [("extraEnv", &container["env"]), ("extraVolumeMounts", &container["volumeMounts"])];
    for (extra, place) in places.into_iter().chain([("extraVolumes", &pod["volumes"])]) {
        let is_there = place.as_array().is_some_and(|all| all.len() > 1 && all.contains(&values[extra][0]));
        ensure!(is_there, "{extra} is not beside the chart's own: {place}");
    }
    Ok(())
}
