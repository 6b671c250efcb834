//! Which function and which bug kinds each sample of a run is about: the same for the same index, seed and settings, on every machine and in every
//! release. Nothing is drawn here that is not counted beforehand; how the draws are made stands in `draw`.

mod draw;
mod spread;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sera_crds::contract::{FunctionKind, FunctionRef, IndexedFunction};
use sera_crds::values::{BugKind, Language};
use serde::Serialize;

use draw::Draw;

/// How many kinds of bugs a first rollout may try, one after the other (the paper's rollout 1).
const KINDS_A_SAMPLE: usize = 3;

/// What samples are drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Functions that are trained on: all that were not set aside.
    Generation,
    /// Those that were.
    Evaluation,
}

/// How samples are drawn.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    /// How many samples a function is good for; at least one.
    pub(crate) instances_per_function: u32,
    /// The kinds of bugs to draw from; none: all.
    pub(crate) bug_kinds: Vec<BugKind>,
}

/// Why there is no such sample.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SamplingError {
    /// The index has no function to generate from.
    #[error("the snapshot has no function to generate from: widen its selection, or set a smaller share aside")]
    NoFunction,
    /// More samples are asked for than there are.
    #[error(
        "there is no sample {number}: the snapshot's functions are good for {samples} samples (0 to {}); raise instancesPerFunction, take more commits, or ask for fewer samples",
        samples - 1
    )]
    Beyond {
        /// The sample that was asked for.
        number: u64,
        /// How many there are.
        samples: u64,
    },
}

/// One sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sample {
    /// Its number in the run.
    pub(crate) number: u64,
    /// The function, at one of the commits where it is the same.
    pub(crate) function: FunctionRef,
    pub(crate) kind: FunctionKind,
    pub(crate) language: Language,
    /// The kinds of bugs, in the order in which they are tried; no two alike.
    pub(crate) bug_kinds: Vec<BugKind>,
}

/// All samples of a run, none of them drawn yet. A function that is the same at several commits counts once.
pub(crate) struct SampleSpace {
    seed: u64,
    instances: u64,
    bug_kinds: Vec<BugKind>,
    functions: Vec<Variant>,
    /// The functions in the order in which they are drawn.
    order: Vec<u32>,
}

/// A function with one text, and where it is.
struct Variant {
    file: Arc<str>,
    name: String,
    digest: String,
    kind: FunctionKind,
    language: Language,
    /// The snapshots that have it, each with its lines there.
    places: Vec<(u32, (u32, u32))>,
}

impl SampleSpace {
    /// The samples of an index, which may be read while it is streamed.
    pub(crate) fn new(
        functions: impl IntoIterator<Item = IndexedFunction>,
        purpose: Purpose,
        settings: &Settings,
    ) -> Result<Self, SamplingError> {
        let functions =
            variants(functions.into_iter().filter(|function| function.held_out == (purpose == Purpose::Evaluation)));
        // A repository may be too small to have anything set aside: then there is nothing to evaluate, which is no mistake.
        if functions.is_empty() && purpose == Purpose::Generation {
            return Err(SamplingError::NoFunction);
        }
        let order = spread::order(&functions, settings.seed);
        let mut bug_kinds =
            if settings.bug_kinds.is_empty() { BugKind::ALL.to_vec() } else { settings.bug_kinds.clone() };
        bug_kinds.sort_unstable();
        bug_kinds.dedup();
        let instances = u64::from(settings.instances_per_function.max(1));
        Ok(Self { seed: settings.seed, instances, bug_kinds, functions, order })
    }

    /// How many samples there are.
    pub(crate) fn len(&self) -> u64 {
        self.order.len() as u64 * self.instances
    }

    /// The sample of that number.
    pub(crate) fn sample(&self, number: u64) -> Result<Sample, SamplingError> {
        let beyond = || SamplingError::Beyond { number, samples: self.len() };
        if number >= self.len() {
            return Err(beyond());
        }
        let functions = self.order.len() as u64;
        let (instance, nth) = (number / functions, usize::try_from(number % functions).map_err(|_| beyond())?);
        let variant = self.order.get(nth).and_then(|place| self.functions.get(*place as usize)).ok_or_else(beyond)?;
        let (snapshot, lines) = variant.place(self.seed, instance);
        Ok(Sample {
            number,
            function: FunctionRef { snapshot, file: variant.file.to_string(), name: variant.name.clone(), lines },
            kind: variant.kind,
            language: variant.language,
            bug_kinds: self.kinds(variant, instance),
        })
    }

    /// The kinds of a function's instance. Its instances begin with a kind each until all have had their turn, and go on with other orders then.
    fn kinds(&self, variant: &Variant, instance: u64) -> Vec<BugKind> {
        let count = self.bug_kinds.len() as u64;
        let (round, turn) = (instance / count, instance % count);
        let mut kinds = self.bug_kinds.clone();
        variant.draw(self.seed, "kinds").of(&round.to_le_bytes()).shuffle(&mut kinds);
        let step = (count / KINDS_A_SAMPLE as u64).max(1);
        let taken = KINDS_A_SAMPLE.min(kinds.len()) as u64;
        let places = (0..taken).map(|nth| (turn + nth * step) % count);
        places.filter_map(|place| kinds.get(usize::try_from(place).ok()?).copied()).collect()
    }
}

impl Variant {
    /// The beginning of every draw that is about this function.
    fn draw(&self, seed: u64, about: &str) -> Draw {
        Draw::new(seed, about).of(self.file.as_bytes()).of(self.name.as_bytes()).of(self.digest.as_bytes())
    }

    /// The commit that an instance is at: other instances are at others, as long as there are.
    fn place(&self, seed: u64, instance: u64) -> (u32, (u32, u32)) {
        let count = self.places.len() as u64;
        let first = self.draw(seed, "commit").below(count);
        let place = usize::try_from((first + instance) % count.max(1)).unwrap_or_default();
        self.places.get(place).copied().unwrap_or_default()
    }
}

/// The functions, each text of each once.
fn variants(functions: impl Iterator<Item = IndexedFunction>) -> Vec<Variant> {
    let mut files: HashMap<String, Arc<str>> = HashMap::new();
    let mut variants: BTreeMap<(Arc<str>, String, String), Variant> = BTreeMap::new();
    for function in functions {
        let file = files.entry(function.file).or_insert_with_key(|file| file.as_str().into()).clone();
        let key = (file.clone(), function.name.clone(), function.digest.clone());
        let variant = variants.entry(key).or_insert_with(|| Variant {
            file,
            name: function.name,
            digest: function.digest,
            kind: function.kind,
            language: function.language,
            places: Vec::new(),
        });
        // The same text twice in one file is one function to a reader of its name.
        if variant.places.iter().all(|(snapshot, _)| *snapshot != function.snapshot) {
            variant.places.push((function.snapshot, function.lines));
        }
    }
    let mut variants: Vec<Variant> = variants.into_values().collect();
    variants.iter_mut().for_each(|variant| variant.places.sort_unstable());
    variants
}

#[cfg(test)]
mod tests;
