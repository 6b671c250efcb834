//! The engines that serve a model: how each is told what to serve, where and by which name, and what it needs to run as nobody in a container whose
//! root cannot be written. What vLLM and SGLang are told is their documentation's word; neither has been run here.

use k8s_openapi::api::core::v1::EnvVar;
use sera_crds::values::{ImageRef, ServingEngine, ToolCallFormat};

use super::{
    Images, ServedModel,
    groups::variable,
    pod::{self, DefaultResources, Fetch, Mounts, Program, Readiness},
    program::Told,
};

/// An engine's way of saying things.
struct Dialect {
    /// What is executed, where that is not the image's own entry.
    command: &'static [&'static str],
    model: &'static str,
    context: &'static str,
    /// How it is told over how many GPUs of a node a copy is spread.
    gpus: &'static str,
    /// How it is told of the other nodes of a copy.
    nodes: Nodes,
    /// What it is told in any case: that it counts the tokens which its cache held, since they cost less and are the sign of its health.
    always: &'static [&'static str],
    /// What it needs to be told beside a parser, to find calls of tools at all.
    calls: &'static [&'static str],
    /// Its parsers of calls in tags (Hermes), and in Qwen3-Coder's XML.
    parsers: [&'static str; 2],
}

/// How an engine is told that a copy is spread over nodes.
struct Nodes {
    /// Over how many.
    count: &'static str,
    /// Which of them this is.
    rank: &'static str,
    /// Where they meet, and the port that is named with it.
    leader: (&'static str, &'static str),
    /// How layers are divided among nodes, where GPUs of one node alone share a layer; the engine's own way where that is not said.
    layers: Option<&'static str>,
    /// What keeps those from answering that have no clients.
    worker: Option<&'static str>,
}

/// Which pod of a copy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The one that answers.
    Leader,
    /// One that it computes with, on another node.
    Worker,
}

const VLLM: Dialect = Dialect {
    command: &["vllm", "serve"],
    model: "--model",
    context: "--max-model-len",
    gpus: "--tensor-parallel-size",
    nodes: Nodes {
        count: "--nnodes",
        rank: "--node-rank",
        leader: ("--master-addr", ""),
        layers: Some("--pipeline-parallel-size"),
        worker: Some("--headless"),
    },
    always: &["--enable-prompt-tokens-details"],
    calls: &["--enable-auto-tool-choice"],
    parsers: ["hermes", "qwen3_coder"],
};

const SGLANG: Dialect = Dialect {
    command: &["python3", "-m", "sglang.launch_server"],
    model: "--model-path",
    context: "--context-length",
    gpus: "--tp-size",
    nodes: Nodes {
        count: "--nnodes",
        rank: "--node-rank",
        leader: ("--dist-init-addr", ":20000"),
        layers: None,
        worker: None,
    },
    always: &["--enable-cache-report", "--enable-metrics"],
    calls: &[],
    parsers: ["qwen25", "qwen3_coder"],
};

/// What serves a model that lies at `place`.
pub(super) struct Engine {
    pub image: ImageRef,
    pub command: Option<Vec<String>>,
    pub told: Told,
    pub resources: DefaultResources,
    pub readiness: Readiness,
    /// What is told the program that fetches the model from its bucket first, for engines that read folders alone.
    pub fetch: Option<Told>,
}

impl Engine {
    /// The engine that the model's owner has chosen, listening at `port`.
    pub(super) fn of(model: &ServedModel, part: Part, place: &str, images: &Images, port: u16) -> Self {
        let (image, dialect) = match model.engine {
            ServingEngine::Builtin => (&images.teacher, None),
            ServingEngine::Vllm => (&images.vllm, Some(VLLM)),
            ServingEngine::Sglang => (&images.sglang, Some(SGLANG)),
        };
        let image = model.image.as_ref().unwrap_or(image).clone();
        let Some(dialect) = dialect else {
            let (resources, readiness) = (pod::SERVER_RESOURCES, Readiness::Asked);
            return Self { image, command: None, told: builtin(model, place, port), resources, readiness, fetch: None };
        };
        let fetch = place.contains("://").then(|| fetch(model, place));
        let fetched = format!("{}/model", pod::FETCHED_MOUNT);
        let place = if fetch.is_some() { &fetched } else { place };
        Self {
            image,
            command: Some(dialect.command.iter().map(|word| (*word).to_owned()).collect()),
            told: dialect.tell(model, part, place, port),
            resources: pod::ENGINE_RESOURCES,
            readiness: match part {
                Part::Leader => Readiness::LoadsLong,
                // Its leader is not ready without it, and is made anew with it.
                Part::Worker => Readiness::Unasked,
            },
            fetch,
        }
    }
}

impl Engine {
    /// The program of its pods, which find the model on `claim`, where it is on one.
    pub(super) fn program<'a>(
        &'a self,
        model: &'a ServedModel,
        claim: Option<&'a str>,
        images: &'a Images,
        port: Option<u16>,
    ) -> Program<'a> {
        let credentials = model.credentials.as_deref();
        let fetch = self.fetch.as_ref().map(|told| Fetch {
            image: images.teacher.as_str(),
            arguments: told.arguments.clone(),
            credentials,
        });
        // Who does not read the bucket has no use for its keys.
        let store = credentials.filter(|_| fetch.is_none());
        let mounts = Mounts { store, model_claim: claim, ..Mounts::default() };
        Program {
            image: self.image.as_str(),
            command: self.command.clone(),
            arguments: self.told.arguments.clone(),
            references: self.told.references.clone(),
            variables: self.told.variables.clone(),
            port,
            readiness: self.readiness,
            fetch,
            ..Program::new(mounts, self.resources)
        }
    }
}

/// The project's own program, that brings a model from its bucket.
fn fetch(model: &ServedModel, place: &str) -> Told {
    let mut told = Told::of("fetch");
    told.say(format!("--model={place}"));
    told.say(format!("--to={}", pod::FETCHED_MOUNT));
    told.say("--log-format=json".to_owned());
    if model.credentials.is_some() {
        told.say(format!("--store-credentials={}", pod::STORE_CREDENTIALS_MOUNT));
    }
    told
}

/// The project's own server; what context it keeps is the model's own, or what its owner says.
fn builtin(model: &ServedModel, place: &str, port: u16) -> Told {
    let mut told = Told::of("serve");
    told.say(format!("--model={place}"));
    told.say(format!("--served-model-name={}", model.name));
    told.say(format!("--listen=0.0.0.0:{port}"));
    told.say("--log-format=json".to_owned());
    if place.contains("://") {
        told.say(format!("--scratch={}", pod::SCRATCH_MOUNT));
        if model.credentials.is_some() {
            told.say(format!("--store-credentials={}", pod::STORE_CREDENTIALS_MOUNT));
        }
    }
    model.arguments.iter().for_each(|argument| told.say(argument.clone()));
    told.variables.extend(model.variables.clone());
    told
}

impl Dialect {
    /// The owner's own arguments come last, and a flag among them is not said twice.
    fn tell(&self, model: &ServedModel, part: Part, place: &str, port: u16) -> Told {
        let mut told = Told::default();
        let is_said = |flag: &str| {
            let is_it = |argument: &String| {
                argument.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            };
            model.arguments.iter().any(is_it)
        };
        let mut say = |flag: &str, value: &str| {
            if !is_said(flag) {
                told.say(if value.is_empty() { flag.to_owned() } else { format!("{flag}={value}") });
            }
        };
        say(self.model, place);
        say("--served-model-name", &model.name);
        say("--host", "0.0.0.0");
        say("--port", &port.to_string());
        for flag in self.always {
            let (flag, value) = flag.split_once('=').unwrap_or((flag, ""));
            say(flag, value);
        }
        let sharing = if self.nodes.layers.is_some() { model.gpus / model.nodes.max(1) } else { model.gpus };
        if sharing > 1 {
            say(self.gpus, &sharing.to_string());
        }
        if model.nodes > 1 {
            say(self.nodes.count, &model.nodes.to_string());
            self.nodes.layers.iter().for_each(|flag| say(flag, &model.nodes.to_string()));
            self.nodes.worker.iter().filter(|_| part == Part::Worker).for_each(|flag| say(flag, ""));
        }
        if let Some(context) = model.context {
            say(self.context, &context.to_string());
        }
        let [hermes, xml] = self.parsers;
        let parser = match model.tool_calls {
            ToolCallFormat::Hermes => Some(hermes),
            ToolCallFormat::Xml => Some(xml),
            ToolCallFormat::Raw => None,
        };
        if let Some(parser) = parser {
            self.calls.iter().for_each(|flag| say(flag, ""));
            say("--tool-call-parser", parser);
        }
        model.arguments.iter().for_each(|argument| told.say(argument.clone()));
        if model.nodes > 1 {
            let (leader, port) = self.nodes.leader;
            let known = [
                (self.nodes.rank, variable::WORKER_INDEX.to_owned()),
                (leader, format!("{}{port}", variable::LEADER_ADDRESS)),
            ];
            let unsaid = known.into_iter().filter(|(flag, _)| !is_said(flag));
            told.references = unsaid.map(|(flag, value)| format!("{flag}={value}")).collect();
        }
        told.variables = surroundings();
        told.variables.extend(model.variables.clone());
        told
    }
}

/// A place for what they compile and cache, a name for the uid that has none, and no word to anybody outside.
fn surroundings() -> Vec<EnvVar> {
    [
        ("HOME", pod::SCRATCH_MOUNT),
        ("TMPDIR", pod::SCRATCH_MOUNT),
        ("USER", "sera"),
        ("HF_HUB_OFFLINE", "1"),
        ("DO_NOT_TRACK", "1"),
    ]
    .map(|(name, value)| EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None })
    .into()
}
