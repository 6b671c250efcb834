//! What can be set from outside: every flag with its environment variable, checked as it is read. What the values lead to is
//! elsewhere.

mod images;

use std::{
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32},
};

use clap::{ArgAction, Args, Parser, builder::BoolishValueParser};
use sera_crds::{
    defaults::RunDefaults,
    values::{ResourceName, Timeout},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_path_to_error::Track;

pub use self::images::Images;
use crate::build::NetworkRules;
use crate::runtime::{
    lease::{BadTiming, Timing},
    logs,
    throttle::Limit,
    traces::Endpoint,
};

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rate is not one.
    #[error("--qps {0} is not a rate of requests: use a number such as 50, or 0.5")]
    Rate(f64),
    /// The election's periods do not fit together.
    #[error("{0}; check --lease-duration, --lease-renew-deadline and --lease-retry-period")]
    Timing(#[from] BadTiming),
}

/// A file of settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[source] std::io::Error),
    /// It is not what it should be.
    #[error("{at}: {}; correct the chart's value {value}, or the file", .source.to_string().trim_start_matches(&format!("{at}: ")))]
    Parse {
        /// The path of the field.
        at: String,
        /// Where the chart has it.
        value: &'static str,
        /// What is wrong there, and where known on which line.
        #[source]
        source: serde_yaml::Error,
    },
    /// It names a store in two ways.
    #[error("store and claim exclude each other: name one of them in the chart's value runDefaults, or in the file")]
    StoreTwice,
}

/// The controller of SERA: turns private code repositories into coding agents specialised to them.
///
/// It watches `SpecializationRun` and `RolloutBatch` objects (sera.dev/v1alpha1) and makes Jobs for their stages. The cluster is the one
/// of KUBECONFIG (or ~/.kube/config), else the one whose pod it runs in. Its custom resource definitions come with the chart
/// sera-operator-crds, and its permissions with the chart sera-operator.
///
/// It serves /healthz, /readyz and /metrics, ends within two seconds of SIGTERM, and may run in several replicas: one leads, the others
/// stand by.
#[derive(Clone, Debug, Parser)]
#[command(name = "sera-operator", version, max_term_width = 120)]
pub struct Config {
    /// What is served
    #[command(flatten)]
    pub scope: Scope,
    /// What pods run
    #[command(flatten)]
    pub images: Images,
    /// How the API server is used
    #[command(flatten)]
    pub traffic: Traffic,
    /// Who leads
    #[command(flatten)]
    pub election: Election,
    /// What can be seen from outside
    #[command(flatten)]
    pub outlook: Outlook,
}

/// What is served, and with what.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Runs and batches")]
pub struct Scope {
    /// Namespaces whose runs and batches are served, separated by commas; none: those of all namespaces.
    #[arg(long, env = "SERA_NAMESPACES", value_name = "NAME,…", value_delimiter = ',')]
    pub namespaces: Vec<ResourceName>,
    /// A YAML file with what a run takes where its own spec says nothing (the chart's value `runDefaults`). It is read once, at
    /// start, and a run keeps what it took when it was first seen.
    #[arg(long, env = "SERA_RUN_DEFAULTS", value_name = "FILE", value_parser = read_defaults)]
    pub run_defaults: Option<RunDefaults>,
    /// A YAML file with who may ask the pods of runs, and where repositories, stores and endpoints are (the chart's value `runNetworkPolicy`). Without
    /// it their network is left as it is; with it each stage and server gets a NetworkPolicy.
    #[arg(long, env = "SERA_NETWORK_RULES", value_name = "FILE", value_parser = read_network_rules)]
    pub network_rules: Option<NetworkRules>,
    /// How many runs, and how many batches, are worked on at the same moment.
    #[arg(long, env = "SERA_CONCURRENCY", value_name = "COUNT", default_value = "8")]
    pub concurrency: NonZeroU16,
}

/// How much the API server is asked.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Traffic to the API server")]
pub struct Traffic {
    /// Requests a second on the long run. The election's are not counted, nor is a watch once it is open.
    #[arg(long, env = "SERA_QPS", value_name = "RATE", default_value = "50")]
    pub qps: f64,
    /// Requests that may be made at once after a quiet time.
    #[arg(long, env = "SERA_BURST", value_name = "COUNT", default_value = "100")]
    pub burst: NonZeroU32,
}

/// Who leads among several replicas.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Leader election")]
pub struct Election {
    /// Elect a leader by a Lease; `off` only where never more than one replica runs.
    #[arg(long, env = "SERA_LEADER_ELECT", value_name = "on|off", default_value = "on", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub leader_elect: bool,
    /// The Lease's name; replicas that serve the same runs share it.
    #[arg(long, env = "SERA_LEASE_NAME", value_name = "NAME", default_value = "sera-operator")]
    pub lease_name: ResourceName,
    /// The Lease's namespace; by default the one this pod runs in, or the kubeconfig's.
    #[arg(long, env = "SERA_LEASE_NAMESPACE", value_name = "NAME")]
    pub lease_namespace: Option<ResourceName>,
    /// How long a leader that fell silent is waited for, in whole seconds. Longer where API servers have long outages.
    #[arg(long, env = "SERA_LEASE_DURATION", value_name = "TIME", default_value = "15s")]
    pub lease_duration: Timeout,
    /// How long a leader writes on after its last renewal; shorter than --lease-duration.
    #[arg(long, env = "SERA_LEASE_RENEW_DEADLINE", value_name = "TIME", default_value = "10s")]
    pub lease_renew_deadline: Timeout,
    /// Between two renewals; less than half of --lease-renew-deadline.
    #[arg(long, env = "SERA_LEASE_RETRY_PERIOD", value_name = "TIME", default_value = "2s")]
    pub lease_retry_period: Timeout,
    /// This replica's name in the Lease and in events.
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value_t = host_name())]
    pub pod_name: String,
    /// This pod's uid. With it a container that was restarted takes up the Lease that its predecessor left, without waiting for
    /// it to expire; without it each process counts as a replica of its own.
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
}

/// What can be seen from outside.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Health, metrics, logs and traces")]
pub struct Outlook {
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "SERA_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Gauges with a run's name in a label, for dashboards: bounded in number, and the only metrics with such labels.
    #[arg(long, env = "SERA_DASHBOARD_GAUGES", value_name = "on|off", default_value = "on", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub dashboard_gauges: bool,
    /// How log lines look; they go to standard error.
    #[arg(long, env = "SERA_LOG_FORMAT", value_name = "FORMAT", default_value = "auto")]
    pub log_format: logs::Format,
    /// error, warn, info, debug or trace; or directives for parts of the program, such as `info,kube_client=debug`.
    #[arg(long, env = "SERA_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: logs::Level,
    /// The base address of an OpenTelemetry collector for traces of passes (OTLP over HTTP). OpenTelemetry's variables hold too. Empty: no traces.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL",
        default_value = "",
        hide_default_value = true
    )]
    pub otlp_endpoint: Endpoint,
    /// The whole address for traces, where it is not /v1/traces below that of --otlp-endpoint.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        value_name = "URL",
        default_value = "",
        hide_default_value = true
    )]
    pub otlp_traces_endpoint: Endpoint,
}

impl Outlook {
    /// Where traces go.
    pub fn traces(&self) -> Endpoint {
        self.otlp_traces_endpoint.clone().or(self.otlp_endpoint.traces())
    }
}

fn read_defaults(path: &str) -> Result<RunDefaults, BadFile> {
    let defaults: RunDefaults = read_file(path, "runDefaults")?;
    if defaults.store.is_some() && defaults.claim.is_some() { Err(BadFile::StoreTwice) } else { Ok(defaults) }
}

fn read_network_rules(path: &str) -> Result<NetworkRules, BadFile> {
    read_file(path, "runNetworkPolicy")
}

/// What a file sets that the chart makes of one of its values.
fn read_file<T: DeserializeOwned + Default>(path: &str, value: &'static str) -> Result<T, BadFile> {
    let text = std::fs::read_to_string(path).map_err(BadFile::Read)?;
    let mut at = Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(serde_yaml::Deserializer::from_str(&text), &mut at);
    // An empty file, or one of comments alone, is YAML's null, and sets nothing.
    match Option::<T>::deserialize(deserializer) {
        Ok(set) => Ok(set.unwrap_or_default()),
        Err(source) => Err(BadFile::Parse { at: at.path().to_string(), value, source }),
    }
}

impl Traffic {
    /// The limit that these flags set.
    ///
    /// # Errors
    /// [`Error::Rate`] unless the rate is a positive number.
    pub fn limit(&self) -> Result<Limit, Error> {
        Limit::new(self.qps, self.burst).ok_or(Error::Rate(self.qps))
    }
}

impl Election {
    /// The election's periods.
    ///
    /// # Errors
    /// [`Error::Timing`] when they do not fit together.
    pub fn timing(&self) -> Result<Timing, Error> {
        Ok(Timing::new(self.lease_duration.span(), self.lease_renew_deadline.span(), self.lease_retry_period.span())?)
    }

    /// The name by which the Lease knows this process. Without a pod's uid it ends in the time of this process' start, so that
    /// no two processes are ever taken for one.
    pub fn identity(&self) -> String {
        let unique = || format!("{:x}-{:x}", std::process::id(), jiff::Timestamp::now().as_nanosecond());
        format!("{}_{}", self.pod_name, self.pod_uid.clone().filter(|uid| !uid.is_empty()).unwrap_or_else(unique))
    }
}

/// A pod's host name is its name; elsewhere it is as good as any.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "sera-operator".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;

    use super::*;

    fn parse(flags: &[&str]) -> Result<Config, clap::Error> {
        Config::try_parse_from(["sera-operator", "--rollout-image=ghcr.io/acme/sera-rollout:1"].iter().chain(flags))
    }

    #[test]
    fn the_flags_are_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn every_flag_can_be_set_by_the_environment() {
        let command = Config::command();
        let bare: Vec<_> =
            command.get_arguments().filter(|arg| arg.get_env().is_none()).map(clap::Arg::get_id).collect();
        assert!(bare.is_empty(), "{bare:?}");
    }

    #[test]
    fn namespaces_come_separated_by_commas_and_none_means_all() {
        assert!(parse(&[]).unwrap().scope.namespaces.is_empty());
        let names = parse(&["--namespaces=ml,research"]).unwrap().scope.namespaces;
        assert_eq!(names.iter().map(ResourceName::as_str).collect::<Vec<_>>(), ["ml", "research"]);
        assert!(parse(&["--namespaces=ml,No_Name"]).unwrap_err().to_string().contains("No_Name"));
    }

    #[test]
    fn switches_take_the_words_of_people_and_of_helm() {
        for (word, set) in [("on", true), ("off", false), ("true", true), ("false", false)] {
            let config = parse(&[&format!("--dashboard-gauges={word}"), &format!("--leader-elect={word}")]).unwrap();
            assert_eq!((config.outlook.dashboard_gauges, config.election.leader_elect), (set, set), "{word}");
        }
        assert!(parse(&["--dashboard-gauges=maybe"]).is_err());
    }

    #[test]
    fn numbers_that_would_stop_the_operator_are_refused() {
        for flags in [["--concurrency=0"], ["--burst=0"], ["--qps=many"], ["--listen=8080"], ["--lease-duration=15"]] {
            assert!(parse(&flags).is_err(), "{flags:?}");
        }
        for qps in ["0", "-1", "NaN", "inf"] {
            let error = parse(&[&format!("--qps={qps}")]).unwrap().traffic.limit().unwrap_err().to_string();
            assert!(error.contains("--qps"), "{error}");
        }
    }

    #[test]
    fn periods_that_do_not_fit_name_their_flags() {
        let flags = ["--lease-duration=5s", "--lease-renew-deadline=10s"];
        let error = parse(&flags).unwrap().election.timing().unwrap_err().to_string();
        assert!(error.contains("--lease-renew-deadline"), "{error}");
        assert!(parse(&[]).unwrap().election.timing().is_ok());
    }

    #[test]
    fn a_pod_keeps_its_identity_over_restarts_and_other_processes_never_share_one() {
        let in_pod = parse(&["--pod-name=operator-1", "--pod-uid=3f2c"]).unwrap().election;
        assert_eq!(in_pod.identity(), "operator-1_3f2c");
        let elsewhere = parse(&["--pod-name=laptop"]).unwrap().election;
        let first = elsewhere.identity();
        std::thread::sleep(Duration::from_millis(1));
        assert!(first.starts_with("laptop_") && first != elsewhere.identity(), "{first}");
    }

    fn defaults_of(text: &str) -> Result<RunDefaults, BadFile> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_defaults(file.path().to_str().unwrap())
    }

    #[test]
    fn defaults_are_read_and_an_empty_file_sets_nothing() {
        assert_eq!(defaults_of("store: s3://acme-ml/sera").unwrap().store.unwrap().as_str(), "s3://acme-ml/sera");
        assert_eq!(defaults_of("").unwrap(), RunDefaults::default());
        assert_eq!(defaults_of("# none\n").unwrap(), RunDefaults::default());
        assert_eq!(parse(&[]).unwrap().scope.run_defaults, None);
    }

    #[test]
    fn a_bad_file_names_the_field_the_line_and_the_chart_s_value() {
        let error = defaults_of("queueName: gpu\nproxy:\n  http: [many]\n").unwrap_err().to_string();
        assert!(
            error.starts_with("proxy.http: ") && error.contains("line 3") && error.contains("runDefaults"),
            "{error}"
        );
        let error = defaults_of("stroe: s3://acme-ml/sera\n").unwrap_err().to_string();
        assert!(error.contains("unknown field `stroe`"), "{error}");
        let error = defaults_of("store: ftp://acme\n").unwrap_err().to_string();
        assert!(error.starts_with("store: 'ftp://acme' is not a store"), "{error}");
        assert!(matches!(defaults_of("store: s3://acme-ml/sera\nclaim: sera\n"), Err(BadFile::StoreTwice)));
        assert!(matches!(read_defaults("/no/such.yaml"), Err(BadFile::Read(_))));
    }

    #[test]
    fn network_rules_are_peers_as_kubernetes_has_them_and_a_word_that_is_none_is_refused() {
        let rules = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            read_network_rules(file.path().to_str().unwrap())
        };
        let read = rules("askers: [{namespaceSelector: {}}]\noutside: [{ipBlock: {cidr: 10.0.0.0/8}}]\n").unwrap();
        assert_eq!((read.askers.len(), read.outside[0].ip_block.as_ref().unwrap().cidr.as_str()), (1, "10.0.0.0/8"));
        let error = rules("outsider: []\n").unwrap_err().to_string();
        assert!(error.contains("outsider") && error.contains("runNetworkPolicy"), "{error}");
    }
}
