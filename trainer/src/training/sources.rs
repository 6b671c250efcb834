//! Where a student and a dataset come from, before they are here: what lies in a bucket is fetched by one rank of each machine, and the others wait.

use std::path::PathBuf;
use std::sync::Arc;

use sera_program::fetch::Kind;
use sera_program::progress::Progress;

use super::error::TrainingError;
use super::inputs::Places;
use crate::bucket::Bucket;
use crate::ranks::Collective;

/// A folder, here or in a bucket.
#[derive(Debug, Clone)]
pub enum Source {
    /// On this machine.
    Folder(PathBuf),
    /// In a bucket.
    Bucket(Arc<Bucket>),
}

/// Where everything comes from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The student, as Hugging Face lays a model out.
    pub student: Source,
    /// `train.jsonl`, and `eval.jsonl` and `manifest.json` where there are such.
    pub dataset: Source,
    /// Where tokens are kept for the next start; none: nowhere.
    pub cache: Option<PathBuf>,
    /// Where what is fetched goes; every machine has one of its own.
    pub scratch: PathBuf,
    /// This rank's number on its machine.
    pub local_rank: usize,
}

impl Source {
    /// Its name, for people.
    fn name(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Bucket(bucket) => bucket.uri().to_owned(),
        }
    }
}

impl Sources {
    /// Fetches what has to be fetched; all ranks call it together.
    pub(super) fn bring(&self, ranks: &mut dyn Collective) -> Result<Places, TrainingError> {
        if matches!((&self.student, &self.dataset), (Source::Folder(_), Source::Folder(_))) {
            return self.fetch();
        }
        let own = (self.local_rank == 0).then(|| self.fetch());
        let mut failed = [if matches!(own, Some(Err(_))) { 1.0 } else { 0.0 }];
        ranks.all_reduce_f64(&mut failed)?;
        match own {
            Some(Err(error)) => Err(error),
            _ if failed != [0.0] => Err(TrainingError::NotFetched),
            Some(places) => places,
            // It is there, and only looked at.
            None => self.fetch(),
        }
    }

    fn fetch(&self) -> Result<Places, TrainingError> {
        Ok(Places {
            student: self.folder(&self.student, Kind::Model)?,
            base: self.student.name(),
            dataset: self.folder(&self.dataset, Kind::Dataset)?,
            cache: self.cache.clone(),
        })
    }

    fn folder(&self, source: &Source, kind: Kind) -> Result<PathBuf, TrainingError> {
        match source {
            Source::Folder(folder) => Ok(folder.clone()),
            Source::Bucket(bucket) => Ok(bucket.fetch(kind, &self.scratch, &Progress::detect())?),
        }
    }
}
