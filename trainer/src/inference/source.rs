//! Where a model that is to answer comes from: a directory as Hugging Face lays it out, or a GGUF file. Its tokenizer and template are read at once, its
//! weights when they are asked for.

use std::collections::HashMap;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use candle_core::DType;
use sera_chat::{Chat, ChatError};
use sera_crds::contract::ExitCode;

use super::matrix::Kept;
use super::weights::Weights;
use crate::files::{FilesError, Generation, GgufError, GgufFile, ModelDir, generation};
use crate::model::Config;

/// How GGUF files' names end.
const GGUF: &str = "gguf";

/// Why a model cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Its files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Its GGUF file.
    #[error(transparent)]
    Gguf(Box<GgufError>),
    /// Its tokenizer or template.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// Neither kind of model.
    #[error("{} has neither a config.json nor exactly one .gguf file (it has {found}); name the directory of a model, or a .gguf file", folder.display())]
    NoModel {
        /// The directory.
        folder: PathBuf,
        /// How many GGUF files it has.
        found: usize,
    },
    /// A tensor operation failed.
    #[error("the weights cannot be read: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl From<GgufError> for SourceError {
    fn from(error: GgufError) -> Self {
        Self::Gguf(Box::new(error))
    }
}

impl SourceError {
    /// Whose turn it is.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Files(error) => error.exit_code(),
            Self::Gguf(error) => match &**error {
                GgufError::Files(error) => error.exit_code(),
                _ => ExitCode::Configuration,
            },
            Self::Tensor(_) => ExitCode::Internal,
            Self::Chat(_) | Self::NoModel { .. } => ExitCode::Configuration,
        }
    }
}

#[derive(Debug)]
enum Place {
    Dir(Box<ModelDir>),
    Gguf(Box<GgufFile>),
}

/// A model to answer with.
#[derive(Debug)]
pub struct Source {
    place: Place,
    chat: Chat,
    generation: Generation,
}

impl Source {
    /// Opens the directory of a model, a GGUF file, or a directory with one GGUF file. A GGUF file's tokenizer and template are those of the
    /// `tokenizer.json` beside it, or else those of its metadata.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        if let Some(file) = gguf_in(path)? {
            return Self::open_gguf(&file);
        }
        let dir = ModelDir::open(path)?;
        let (chat, generation) = (Chat::load(path)?, generation(path, |name| std::fs::read(path.join(name)))?);
        Ok(Self::new(Place::Dir(Box::new(dir)), chat, generation))
    }

    fn open_gguf(file: &Path) -> Result<Self, SourceError> {
        let opened = GgufFile::open(file, DType::F32)?;
        let folder = file.parent().unwrap_or(Path::new("."));
        let beside = folder.join("tokenizer.json").is_file();
        let metadata: HashMap<String, Vec<u8>> =
            if beside { HashMap::new() } else { opened.companions()?.into_iter().collect() };
        let read = |name: &str| match metadata.get(name) {
            Some(content) => Ok(content.clone()),
            None if name == "config.json" => Ok(opened.config_json().as_bytes().to_vec()),
            None if beside => std::fs::read(folder.join(name)),
            None => Err(Error::from(ErrorKind::NotFound)),
        };
        let named = if beside { folder } else { file };
        let (chat, generation) = (Chat::load_from(named, read)?, generation(named, read)?);
        Ok(Self::new(Place::Gguf(Box::new(opened)), chat, generation))
    }

    /// A turn ends an answer, whatever the files say: those of many base models have a template, and not the token that ends its turns.
    fn new(place: Place, chat: Chat, generation: Generation) -> Self {
        let generation = generation.ended_by(chat.turn_end());
        Self { place, chat, generation }
    }

    /// Its tokenizer and template alone.
    pub fn into_chat(self) -> Chat {
        self.chat
    }

    /// What the model computes.
    pub fn config(&self) -> &Config {
        match &self.place {
            Place::Dir(dir) => dir.config(),
            Place::Gguf(file) => file.config(),
        }
    }

    /// Its tokenizer and template.
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// What its files say of generation; the token that ends a turn of its template is among those that end an answer.
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// What its weights are kept in without loss: bf16 where they are stored so, f32 otherwise.
    pub fn kept(&self) -> Kept {
        match &self.place {
            Place::Dir(dir) if dir.dtype() == DType::BF16 => Kept::Bf16,
            Place::Dir(_) | Place::Gguf(_) => Kept::F32,
        }
    }

    /// Reads its weights, and hands on its tokenizer and template.
    pub fn load(self, kept: Kept) -> Result<(Weights, Chat), SourceError> {
        let config = self.config().clone();
        let weights = match self.place {
            Place::Dir(dir) => Weights::load::<SourceError>(&config, kept, |name| Ok(dir.read(name)?))?,
            Place::Gguf(mut file) => Weights::load::<SourceError>(&config, kept, |name| Ok(file.read(name)?))?,
        };
        Ok((weights, self.chat))
    }
}

/// The GGUF file that a path stands for, if it does not stand for a directory of Hugging Face's.
fn gguf_in(path: &Path) -> Result<Option<PathBuf>, SourceError> {
    let is_gguf = |path: &Path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(GGUF));
    if path.is_file() || is_gguf(path) && !path.is_dir() {
        return Ok(Some(path.to_owned()));
    }
    if path.join("config.json").is_file() {
        return Ok(None);
    }
    let listed = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let listed = listed.map_err(|source| FilesError::Read { path: path.to_owned(), source })?;
    let mut files: Vec<PathBuf> = listed.iter().map(std::fs::DirEntry::path).filter(|path| is_gguf(path)).collect();
    match (files.pop(), files.len()) {
        (Some(file), 0) => Ok(Some(file)),
        (last, others) => {
            let found = others + usize::from(last.is_some());
            Err(SourceError::NoModel { folder: path.to_owned(), found })
        }
    }
}
