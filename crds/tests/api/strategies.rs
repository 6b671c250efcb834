//! Specs at random: every branch, every optional field absent or given, every value drawn from the pattern of its type.

use proptest::{collection::vec, option::of, prelude::*, sample::select, string::string_regex};
use sera_crds::{batch::BatchSpec, run::RunSpec, values as v};
use serde_json::{Map, Value, json};

/// A run's spec.
pub(crate) fn run() -> impl Strategy<Value = RunSpec> {
    object(vec![
        given("source", source()),
        maybe(
            "from",
            object(vec![given("uri", text::<v::StoreUri>()), given("through", choice(v::AdoptableStage::ALL))]),
        ),
        given("teacher", teacher()),
        given("generation", generation()),
        maybe("dataset", dataset()),
        given("training", training()),
        maybe(
            "evaluation",
            object(vec![
                maybe("enabled", any::<bool>().json()),
                maybe("samples", number(1, 10_000)),
                maybe("minEffect", text::<v::Ratio>()),
            ]),
        ),
        maybe("output", output()),
        maybe("serve", serve()),
        maybe("suspend", any::<bool>().json()),
        maybe("retry", "[a-z0-9-]{0,63}".json()),
        maybe(
            "ttl",
            object(vec![maybe("afterSucceeded", text::<v::Duration>()), maybe("afterFailed", text::<v::Duration>())]),
        ),
        maybe("pods", pods()),
    ])
    .prop_map(|spec| serde_json::from_value(spec).unwrap())
}

/// A batch's spec.
pub(crate) fn batch() -> impl Strategy<Value = BatchSpec> {
    object(vec![
        maybe("runRef", secret()),
        maybe("source", source()),
        maybe("snapshot", object(vec![given("uri", text::<v::StoreUri>())])),
        maybe("teacher", teacher()),
        maybe("generation", object(rollouts())),
        maybe("output", output()),
        given("samples", object(vec![maybe("from", number(0, 20_000_000)), given("count", number(1, 100_000))])),
        maybe("pods", pods()),
        maybe("suspend", any::<bool>().json()),
        maybe("retry", "[a-z0-9-]{0,63}".json()),
    ])
    .prop_map(|spec| serde_json::from_value(spec).unwrap())
}

type Json = BoxedStrategy<Value>;
type Field = (&'static str, BoxedStrategy<Option<Value>>);

trait IntoJson {
    fn json(self) -> Json;
}

impl<T: Into<Value> + std::fmt::Debug + 'static, S: Strategy<Value = T> + 'static> IntoJson for S {
    fn json(self) -> Json {
        self.prop_map(Into::into).boxed()
    }
}

fn given(name: &'static str, value: Json) -> Field {
    (name, value.prop_map(Some).boxed())
}

fn maybe(name: &'static str, value: Json) -> Field {
    (name, of(value).boxed())
}

fn object(fields: Vec<Field>) -> Json {
    let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    values
        .prop_map(move |values| {
            let fields = names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
            Value::Object(fields.collect::<Map<_, _>>())
        })
        .boxed()
}

/// Texts that fit a pattern, whose anchors say nothing of what lies between them.
pub(crate) fn drawn_from(pattern: &str) -> impl Strategy<Value = String> + use<> {
    string_regex(pattern.trim_start_matches('^').trim_end_matches('$')).unwrap()
}

/// A text that is a value of its type: drawn from the pattern, and kept where the type takes it.
fn text<T: v::TextValue + 'static>() -> Json {
    drawn_from(T::PATTERN).prop_filter(T::KIND, |text| text.parse::<T>().is_ok()).json()
}

fn choice<T: std::fmt::Display + Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> Json {
    select(all).prop_map(|value| value.to_string()).json()
}

fn list(item: Json) -> Json {
    vec(item, 0..4).json()
}

fn number(from: u64, to: u64) -> Json {
    (from..=to).json()
}

fn secret() -> Json {
    object(vec![given("name", text::<v::ResourceName>())])
}

fn env() -> Json {
    list(object(vec![given("name", text::<v::EnvName>()), maybe("value", any::<String>().json())]))
}

fn resources() -> Json {
    let quantities =
        || select(vec![json!({}), json!({"cpu": "500m"}), json!({"memory": "1.5Gi", "nvidia.com/gpu": "8"})]).boxed();
    object(vec![maybe("limits", quantities()), maybe("requests", quantities())])
}

fn source() -> Json {
    let git = object(vec![
        given("url", text::<v::GitUrl>()),
        maybe("revision", "[a-z0-9][a-z0-9./-]{0,40}".json()),
        maybe("credentialsSecretRef", secret()),
    ]);
    let github = object(vec![
        given("owner", "[a-z]{1,39}".json()),
        given("repository", "[a-z.]{1,100}".json()),
        maybe("apiUrl", text::<v::HttpUrl>()),
        maybe("credentialsSecretRef", secret()),
    ]);
    object(vec![
        maybe("git", git),
        maybe("github", github),
        maybe("commits", object(vec![maybe("count", number(1, 64)), maybe("lookbackDays", number(0, 36_500))])),
        maybe("include", list(text::<v::Glob>())),
        maybe("exclude", list(text::<v::Glob>())),
        maybe("languages", list(choice(v::Language::ALL))),
        maybe("heldOutFraction", text::<v::Ratio>()),
    ])
}

fn model() -> Json {
    object(vec![given("uri", text::<v::ModelUri>()), maybe("credentialsSecretRef", secret())])
}

fn teacher() -> Json {
    let endpoint = object(vec![
        given("url", text::<v::HttpUrl>()),
        given("model", "[A-Za-z0-9./-]{1,40}".json()),
        maybe("credentialsSecretRef", secret()),
        maybe("caSecretRef", secret()),
    ]);
    let serve = object(vec![
        given("engine", choice(v::ServingEngine::ALL)),
        maybe("image", text::<v::ImageRef>()),
        given("model", model()),
        maybe("replicas", number(0, 256)),
        maybe("gpusPerReplica", number(0, 128)),
        maybe("nodesPerReplica", number(1, 16)),
        maybe("args", list(any::<String>().json())),
        maybe("env", env()),
    ]);
    let shares = object(vec![
        maybe("full", text::<v::Ratio>()),
        maybe("partial", text::<v::Ratio>()),
        maybe("miss", text::<v::Ratio>()),
    ]);
    let rehearsal = object(vec![maybe("shares", shares)]);
    let price = object(vec![
        given("inputPerMillion", text::<v::Usd>()),
        maybe("cachedInputPerMillion", text::<v::Usd>()),
        given("outputPerMillion", text::<v::Usd>()),
    ]);
    let sampling =
        object(vec![maybe("temperature", text::<v::Decimal>()), maybe("maxOutputTokens", number(256, 131_072))]);
    let with = move |backend: Field| {
        object(vec![
            backend,
            maybe("sampling", sampling.clone()),
            maybe("contextLength", number(1024, 16_777_216)),
            maybe("price", price.clone()),
        ])
    };
    prop_oneof![with(given("endpoint", endpoint)), with(given("serve", serve)), with(given("rehearsal", rehearsal))]
        .boxed()
}

fn generation() -> Json {
    let mut fields = rollouts();
    fields.extend([
        given("acceptedTrajectories", number(1, 1_000_000)),
        maybe("maxSamples", number(1, 20_000_000)),
        maybe("batchSize", number(1, 100_000)),
        maybe("parallelBatches", number(1, 16)),
    ]);
    object(fields)
}

fn rollouts() -> Vec<Field> {
    let agent = object(vec![
        maybe("maxSteps", number(1, 10_000)),
        maybe("maxOutputTokens", number(256, 131_072)),
        maybe("commandTimeout", text::<v::Timeout>()),
        maybe("rolloutTimeout", text::<v::Timeout>()),
    ]);
    let environment = object(vec![
        maybe("image", text::<v::ImageRef>()),
        maybe("workingDir", text::<v::ContainerPath>()),
        maybe("env", env()),
        maybe("setup", any::<String>().json()),
        maybe("user", object(vec![given("uid", number(1, 2_147_483_647)), maybe("gid", number(1, 2_147_483_647))])),
        maybe("writablePaths", list(text::<v::ContainerPath>())),
        maybe("readOnlyRootFilesystem", any::<bool>().json()),
    ]);
    let sandbox = object(vec![
        maybe("slots", number(1, 64)),
        maybe("network", choice(v::NetworkMode::ALL)),
        maybe("landlock", choice(v::LandlockMode::ALL)),
        maybe("resources", resources()),
    ]);
    let budget = object(vec![
        maybe("maxCost", text::<v::Usd>()),
        maybe("maxTotalTokens", number(1, 9_007_199_254_740_991)),
        maybe("maxDuration", text::<v::Timeout>()),
    ]);
    vec![
        maybe("shardSize", number(1, 10_000)),
        maybe("bugKinds", list(choice(v::BugKind::ALL))),
        maybe("seed", number(0, 9_007_199_254_740_991)),
        maybe("agent", agent),
        maybe("environment", environment),
        maybe("sandbox", sandbox),
        maybe(
            "verification",
            object(vec![maybe("measure", choice(v::Measure::ALL)), maybe("threshold", text::<v::Ratio>())]),
        ),
        maybe("filters", object(vec![maybe("maxPatchLines", number(1, 1_000_000))])),
        maybe("budget", budget),
        maybe("startDeadline", text::<v::Timeout>()),
    ]
}

fn dataset() -> Json {
    object(vec![
        maybe("toolCallFormat", choice(v::ToolCallFormat::ALL)),
        maybe("firstRolloutShare", text::<v::Ratio>()),
        maybe("contextLength", number(1024, 1_048_576)),
        maybe("minKeptRatio", text::<v::Ratio>()),
    ])
}

fn training() -> Json {
    let lora = object(vec![
        maybe("rank", number(1, 1024)),
        maybe("dropout", text::<v::Ratio>()),
        maybe("targetModules", list(text::<v::ModuleName>())),
    ]);
    let method = prop_oneof![object(vec![given("lora", lora)]), Just(json!({"full": {}}))].boxed();
    object(vec![
        given("student", model()),
        maybe("method", method),
        maybe("learningRate", text::<v::Rate>()),
        maybe("warmupSteps", number(0, 1_000_000)),
        maybe("schedule", choice(v::Schedule::ALL)),
        maybe("clipNorm", text::<v::Decimal>()),
        maybe("lossAverage", choice(v::LossAverage::ALL)),
        maybe("zLoss", text::<v::Decimal>()),
        maybe("packing", any::<bool>().json()),
        maybe("gpusPerNode", number(0, 16)),
        maybe("ranksPerNode", number(1, 64)),
        maybe("precision", choice(v::Precision::ALL)),
        maybe("sharding", choice(v::Sharding::ALL)),
        maybe("checkpointEvery", text::<v::Timeout>()),
    ])
}

fn output() -> Json {
    object(vec![
        maybe("store", text::<v::StoreUri>()),
        maybe("credentialsSecretRef", secret()),
        maybe("reclaimPolicy", choice(v::ReclaimPolicy::ALL)),
    ])
}

fn serve() -> Json {
    object(vec![
        maybe("enabled", any::<bool>().json()),
        maybe("engine", choice(v::ServingEngine::ALL)),
        maybe("image", text::<v::ImageRef>()),
        maybe("api", list(choice(v::ServingApi::ALL))),
    ])
}

fn pods() -> Json {
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}],
    }}});
    let labels = || {
        vec(("[a-z]{1,20}", text::<v::LabelValue>()), 0..4)
            .prop_map(|entries| Value::Object(entries.into_iter().collect()))
            .boxed()
    };
    let proxy = object(vec![maybe("https", text::<v::HttpUrl>()), maybe("noProxy", list("[a-z.]{1,20}".json()))]);
    let settings = object(vec![
        maybe("nodeSelector", labels()),
        maybe("tolerations", list(Just(json!({"key": "spot", "operator": "Exists"})).boxed())),
        maybe("affinity", Just(affinity).boxed()),
        maybe("imagePullSecrets", list(secret())),
        maybe("labels", labels()),
        maybe("annotations", labels()),
        maybe("queueName", text::<v::QueueName>()),
        maybe("resources", resources()),
        maybe("shmSize", Just(json!("64Gi")).boxed()),
        maybe("proxy", proxy),
        maybe("caSecretRef", secret()),
    ]);
    object(vec![maybe("default", settings.clone()), maybe("train", settings.clone()), maybe("serve", settings)])
}
