//! The flags that say which functions are indexed, and which of them are set aside: `spec.source` by hand.

use clap::Args;
use sera_crds::contract::FunctionSelection;
use sera_crds::values::{Glob, Language, Ratio};

/// The largest share that may be set aside, as in the API: more than half would leave too little to train on.
const MAX_HELD_OUT: &str = "0.5";

#[derive(Debug, Args)]
#[command(next_help_heading = "Functions")]
pub(super) struct SelectionArgs {
    /// A glob of files whose functions are used, relative to the repository's root; may be given several times [default: every file but tests,
    /// vendored and generated ones]
    ///
    /// One star stays within a folder, two do not, and a folder stands for all that is in it. Tests, vendored and generated files are left out even
    /// so, unless a glob spells their folder out: tests/** takes tests.
    #[arg(long, value_name = "GLOB")]
    include: Vec<Glob>,
    /// A glob of files that are left out even where --include names them; may be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<Glob>,
    /// The languages whose functions are used, with commas between them [default: all that the indexer knows]
    #[arg(long, value_name = "LANGUAGE", value_delimiter = ',')]
    languages: Vec<Language>,
    /// The share of functions, whole files together, that is set aside for evaluation: 0 to 0.5
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = held_out_fraction)]
    held_out_fraction: Ratio,
    /// What decides which files are set aside
    #[arg(long, value_name = "SEED", default_value_t = 42)]
    held_out_seed: u64,
}

fn held_out_fraction(text: &str) -> Result<Ratio, String> {
    let fraction: Ratio = text.parse().map_err(|error| format!("{error}"))?;
    let most = MAX_HELD_OUT.parse::<Ratio>().map_err(|error| format!("{error}"))?;
    if fraction.value() > most.value() {
        return Err(format!("'{text}' is more than half of the functions: at most {MAX_HELD_OUT} can be set aside"));
    }
    Ok(fraction)
}

impl From<SelectionArgs> for FunctionSelection {
    fn from(arguments: SelectionArgs) -> Self {
        let mut languages = arguments.languages;
        languages.sort_unstable();
        languages.dedup();
        Self {
            include: arguments.include,
            exclude: arguments.exclude,
            languages,
            held_out_fraction: arguments.held_out_fraction,
            held_out_seed: arguments.held_out_seed,
        }
    }
}
