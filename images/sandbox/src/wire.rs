//! What the driver and `sera-sandbox` say to each other: one request, one answer, over one stream. A frame is a kind (one byte), a length (u32,
//! big-endian) and as many bytes. A request or an answer is one JSON frame; where it says so, data frames follow, and an end frame after them.
//!
//! Nothing that a model could have written is interpreted by the reader: paths are bytes, contents are bytes, and every length is bounded.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The version that both sides must speak; the first request says it.
pub const PROTOCOL: u32 = 1;
/// The longest JSON frame, in bytes: a `create` of the editor may carry a whole file.
pub const MAX_JSON: u32 = 32 << 20;
/// The longest data frame, in bytes.
pub const MAX_DATA: u32 = 1 << 20;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A [`Request`] or an [`Answer`], as JSON.
    Json = 1,
    /// A piece of a stream of bytes.
    Data = 2,
    /// The end of such a stream; empty.
    End = 3,
}

/// What the driver asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// The first request: who speaks, and what must hold. Answer: [`Answer::Ready`].
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// What commands may do; refused where the kernel cannot keep it.
        policy: Policy,
    },
    /// Put a tree at the workspace: data frames with a tar stream follow, of directories, regular files and symbolic links. What the image has there
    /// is kept below it; `setup` is run, and the result is what `changed` compares with. For the tree that was put last the stream may have no bytes
    /// at all. Answer: [`Answer::Put`].
    Put {
        /// A name for the tree (its git commit id): the same tree is put again by restoring only what differs.
        tree: String,
    },
    /// Execute a command in the slot's shell. Answer: [`Answer::Executed`].
    Exec {
        /// The command, as the model wrote it.
        command: String,
        /// After how many milliseconds everything in the slot is killed.
        timeout_ms: u64,
        /// How many bytes of output are kept: half of them from the beginning, half from the end.
        max_output: u32,
    },
    /// An operation of the editor. Answer: [`Answer::Edited`].
    Edit {
        /// The operation.
        operation: EditOperation,
        /// How many characters of a file are shown.
        max_chars: u32,
    },
    /// What differs from what was put. Answer: [`Answer::Changed`], and data frames with the contents of its files, one after the other.
    Changed,
    /// End everything that runs in the slot, and restore what was put, or nothing where the next request is a `Put` of another tree.
    /// Answer: [`Answer::Wiped`].
    Wipe,
}

/// What commands may do and how much of the machine they may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Whether the network may be used.
    pub egress: bool,
    /// Whether a kernel without Landlock is refused.
    pub landlock_required: bool,
    /// Variables of every command.
    pub env: Vec<(String, String)>,
    /// A script that is run once after a put.
    pub setup: Option<String>,
    /// How long it may take, in milliseconds.
    pub setup_timeout_ms: u64,
    /// Further directories that commands may write to.
    pub writable_paths: Vec<String>,
    /// The most bytes that the slot's files may take.
    pub disk_bytes: Option<u64>,
    /// The most bytes of memory that the slot's processes may take together.
    pub memory_bytes: Option<u64>,
    /// The most processes and threads.
    pub processes: Option<u32>,
}

/// What the editor can do. Paths are as the model wrote them: absolute below the workspace, or relative to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case", deny_unknown_fields)]
pub enum EditOperation {
    /// Show a file with line numbers, or a directory two levels deep.
    View {
        /// The file or directory.
        path: String,
        /// The first and the last line, from 1; a last of -1 is the end.
        range: Option<(i64, i64)>,
    },
    /// Make a file that is not there.
    Create {
        /// The file.
        path: String,
        /// Its text.
        text: String,
    },
    /// Replace a text that stands in the file exactly once. Not a byte beside it is touched.
    StrReplace {
        /// The file.
        path: String,
        /// The text.
        old: String,
        /// What stands there then.
        new: String,
    },
    /// Insert a text after a line.
    Insert {
        /// The file.
        path: String,
        /// The line, from 0 (the beginning).
        line: u64,
        /// The text.
        text: String,
    },
    /// Take back the last change that the editor made to a file.
    Undo {
        /// The file.
        path: String,
    },
}

/// What `sera-sandbox` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Answer {
    /// It is ready to be used.
    Ready {
        /// [`PROTOCOL`].
        protocol: u32,
        /// What keeps commands apart here: `seccomp`, `landlock-v7`, `kill-all`, …
        protections: Vec<String>,
        /// The workspace, as commands see it.
        workspace: String,
        /// The shell that commands are given to.
        shell: String,
    },
    /// The tree is there.
    Put {
        /// How many files were written.
        written: u64,
        /// What `setup` printed, where it was run.
        setup_output: Option<String>,
    },
    /// A command has ended.
    Executed {
        /// How it ended.
        end: CommandEnd,
        /// What it printed, standard output and error as they came; what is no UTF-8 is replaced.
        output: String,
        /// How many bytes were left out in the middle.
        cut_bytes: u64,
        /// How long it took, in milliseconds.
        elapsed_ms: u64,
    },
    /// The editor has done it, or says why not; both are for the model.
    Edited {
        /// What the model is told.
        output: String,
        /// Whether it was done.
        done: bool,
    },
    /// What differs from what was put.
    Changed {
        /// The files, sorted by path.
        files: Vec<ChangedFile>,
    },
    /// The slot is as it was put, and nothing runs in it.
    Wiped {
        /// How many files were restored or removed.
        restored: u64,
    },
    /// It cannot be done; the connection stays usable unless `fatal`.
    Failed {
        /// Whose fault it is.
        fault: Fault,
        /// A sentence.
        message: String,
        /// Whether the slot must not be used any more.
        fatal: bool,
    },
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum CommandEnd {
    /// With an exit code; the shell lives on.
    Exited {
        /// The code.
        code: i32,
    },
    /// It took too long: everything in the slot was killed, and the shell is new.
    TimedOut,
    /// The shell ended (`exit`, a signal): the next command has a new one.
    ShellEnded,
    /// The slot passed a limit, and everything in it was killed.
    LimitPassed {
        /// Which.
        limit: Limit,
    },
}

/// A limit of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Limit {
    /// Bytes on disk.
    Disk,
    /// Bytes of memory.
    Memory,
    /// Processes and threads.
    Processes,
}

impl fmt::Display for Limit {
    /// What was done by whoever passed it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "wrote more than there is space for",
            Self::Memory => "took more memory than there is",
            Self::Processes => "started more processes than are allowed",
        })
    }
}

/// A file that differs from what was put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangedFile {
    /// Its path from the workspace. Never absolute, never with `..`, never below `.git`.
    pub path: PathBytes,
    /// What is there now.
    pub now: FileNow,
}

/// What is at a path now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "now", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum FileNow {
    /// Nothing.
    Gone,
    /// A regular file; as many bytes follow in the data frames.
    File {
        /// Its size in bytes.
        bytes: u64,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link, which is not followed.
    Link {
        /// Where it points.
        target: PathBytes,
    },
    /// A regular file that is too large to be shipped.
    TooLarge {
        /// Its size in bytes.
        bytes: u64,
    },
}

/// A path as the kernel has it: any bytes but NUL. On the wire a string where it is UTF-8, else hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "PathText", into = "PathText")]
pub struct PathBytes(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PathText {
    Text(String),
    Hex { hex: String },
}

impl From<PathBytes> for PathText {
    fn from(path: PathBytes) -> Self {
        match String::from_utf8(path.0) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Hex { hex: hex::encode(error.into_bytes()) },
        }
    }
}

impl From<PathText> for PathBytes {
    /// What is no hexadecimal becomes an empty path, which every check refuses.
    fn from(text: PathText) -> Self {
        match text {
            PathText::Text(text) => Self(text.into_bytes()),
            PathText::Hex { hex } => Self(hex::decode(hex).unwrap_or_default()),
        }
    }
}

/// Whose fault it is that something cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// The request breaks the protocol.
    Protocol,
    /// The kernel or the image lacks what the policy demands.
    Unsupported,
    /// `setup` failed.
    Setup,
    /// There is no space, no further shell starts, or a slot will not come clean.
    Environment,
    /// More has changed than is shipped.
    TooMuch,
}
