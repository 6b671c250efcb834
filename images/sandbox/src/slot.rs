//! A slot: its files, its shell, its limits; what is asked of it, one thing after the other.

mod error;

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

pub(crate) use self::error::SlotError;
use crate::confine::{Confinement, landlock};
use crate::files::Files;
use crate::output::Capture;
use crate::outside::{News, Outside};
use crate::police::Police;
use crate::processes::{Scope, Survivors};
use crate::serve::Setting;
use crate::shell::{Program, Shell, ShellError};
use crate::tree::changed::Changes;
use crate::tree::disk;
use crate::wire::{CommandEnd, Limit, Policy};

/// How long a shell may take until it reads commands.
const SHELL_START: Duration = Duration::from_secs(20);
/// The most processes and threads where the policy says nothing and the kernel has to limit them: enough for a parallel build.
pub(crate) const MOST_PROCESSES: u32 = 2048;
/// The longest that `setup` may take.
const LONGEST_SETUP: Duration = Duration::from_hours(24);
/// How much of what `setup` prints is kept, in bytes.
const SETUP_OUTPUT: u32 = 64 << 10;
/// How often a slot is looked at in which nothing but an idle shell runs.
const IDLE: Duration = Duration::from_secs(2);

/// How a command ended, and what it printed.
pub(crate) struct Executed {
    pub(crate) end: CommandEnd,
    pub(crate) output: String,
    pub(crate) cut_bytes: u64,
    pub(crate) elapsed: Duration,
}

/// The slot.
pub(crate) struct Slot {
    pub(crate) files: Files,
    program: Program,
    confinement: Confinement,
    variables: Vec<(String, String)>,
    setup: Option<(String, Duration)>,
    scope: Scope,
    namespaces: bool,
    police: Police,
    next_look: Instant,
    shell: Option<Shell>,
    /// A limit that was passed while no command was waited for.
    passed: Option<Limit>,
}

impl Slot {
    /// Makes a slot of these places, and a first shell to see whether the policy can be kept.
    pub(crate) fn open(
        setting: &Setting,
        policy: &Policy,
        variables: Vec<(String, String)>,
        outside: &Outside,
    ) -> Result<Self, SlotError> {
        let (places, user) = (&setting.places, setting.user);
        if setting.used && !policy.writable_paths.is_empty() {
            let why = "this slot has served a driver before, so what it has at its writable paths is not the image's any more";
            return Err(SlotError::Policy(why.to_owned()));
        }
        let writable: Vec<PathBuf> = writable(policy)?.into_iter().chain(setting.further.iter().cloned()).collect();
        refuse_nested(
            &[&places.workspace, &places.tmp, &places.home].into_iter().chain(&writable).collect::<Vec<_>>(),
        )?;
        let files = Files::open(places, &writable)?;
        let path = variables.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value.as_str());
        let program = Program::find(path)?;
        let scope = Scope::of_this_process();
        let own = [&places.workspace, &places.tmp, &places.home];
        let confinement = Confinement {
            shell: program.path.clone(),
            arguments: program.arguments(),
            workspace: places.workspace.clone(),
            writable: own.into_iter().cloned().chain(writable).collect(),
            hidden: places.hidden.clone(),
            egress: policy.egress,
            landlock_required: policy.landlock_required,
            file_bytes: policy.disk_bytes,
            processes: most_processes(policy, scope, user.is_some()),
            user,
            guard: std::process::id().cast_signed(),
        };
        let limit = Duration::from_millis(policy.setup_timeout_ms).min(LONGEST_SETUP);
        let setup = policy.setup.clone().map(|script| (script, limit));
        let (shell, passed, next_look, namespaces) = (None, None, Instant::now(), setting.namespaces);
        let mut slot = Self {
            files,
            program,
            confinement,
            variables,
            setup,
            scope,
            namespaces,
            police: Police::new(policy, scope),
            next_look,
            shell,
            passed,
        };
        slot.ready_shell(outside).map_err(SlotError::before_any_command)?;
        Ok(slot)
    }

    /// What keeps commands apart here.
    pub(crate) fn protections(&self) -> Vec<String> {
        let mut protections = vec!["seccomp".to_owned(), "no-new-privileges".to_owned()];
        let landlock = landlock::version();
        if landlock > 0 {
            protections.push(format!("landlock-v{landlock}"));
        }
        let kill = if self.scope == Scope::Namespace { "kill-all" } else { "kill-descendants" };
        protections.push(kill.to_owned());
        if self.confinement.user.is_some() {
            protections.push("user-namespace".to_owned());
        }
        if self.namespaces {
            protections.extend(["mount-namespace", "pid-namespace"].map(str::to_owned));
        }
        protections
    }

    /// The shell that commands are given to.
    pub(crate) fn shell_path(&self) -> String {
        self.program.path.display().to_string()
    }

    /// Puts a tree and runs the setup on it. Answers how many files were written, and what the setup printed.
    pub(crate) fn put(
        &mut self,
        tree: &str,
        stream: impl Read,
        outside: &Outside,
    ) -> Result<(u64, Option<String>), SlotError> {
        self.end_all()?;
        if self.files.holds(tree) {
            return Ok((self.files.restore()?, None));
        }
        let written = self.files.put(stream)?;
        let printed = match self.setup.clone() {
            Some((script, timeout)) => {
                let printed = self.run_setup(&script, timeout, outside)?;
                self.files.keep()?;
                Some(printed)
            }
            None => None,
        };
        self.files.name(tree);
        Ok((written, printed))
    }

    fn run_setup(&mut self, script: &str, timeout: Duration, outside: &Outside) -> Result<String, SlotError> {
        let executed = self.execute(script, timeout, SETUP_OUTPUT, outside)?;
        self.end_all()?;
        let how = match executed.end {
            CommandEnd::Exited { code: 0 } => return Ok(executed.output),
            CommandEnd::Exited { code } => format!("ended with code {code}"),
            CommandEnd::TimedOut => format!("took longer than {} s", timeout.as_secs()),
            CommandEnd::ShellEnded => "ended its shell".to_owned(),
            CommandEnd::LimitPassed { limit } => limit.to_string(),
        };
        Err(SlotError::Setup { how, output: executed.output })
    }

    /// Ends everything that runs, and restores what was put.
    pub(crate) fn wipe(&mut self) -> Result<u64, SlotError> {
        self.end_all()?;
        Ok(self.files.restore()?)
    }

    /// What differs from what was put.
    pub(crate) fn changes(&self) -> Result<Changes, SlotError> {
        Ok(self.files.changes()?)
    }

    /// Ends everything that runs in the slot.
    pub(crate) fn end_all(&mut self) -> Result<(), Survivors> {
        self.shell = None;
        self.passed = None;
        self.scope.kill_all()
    }

    /// Waits for the driver's next request, and looks after what runs meanwhile.
    pub(crate) fn idle(&mut self, outside: &Outside) -> Result<(), SlotError> {
        loop {
            let nothing_runs = self.shell.is_none() && self.scope.list().is_empty();
            let until = (!nothing_runs).then_some(self.next_look);
            let news = outside.wait(&[], &[], true, until)?;
            self.note(&news);
            if let Some(limit) = self.police_look() {
                self.end_all()?;
                self.passed = Some(limit);
            }
            if news.request {
                return Ok(());
            }
            if self.scope.list().len() <= 1 {
                self.next_look = Instant::now() + IDLE;
            }
        }
    }

    /// Executes a command in the shell.
    pub(crate) fn execute(
        &mut self,
        command: &str,
        timeout: Duration,
        max_output: u32,
        outside: &Outside,
    ) -> Result<Executed, SlotError> {
        if command.contains('\0') {
            return Ok(not_run(
                CommandEnd::Exited { code: 2 },
                "the command holds a NUL character, which no shell takes\n",
            ));
        }
        if let Some(limit) = self.passed.take() {
            let why =
                "what was left running in the background passed a limit and was ended; this command was not run\n";
            return Ok(not_run(CommandEnd::LimitPassed { limit }, why));
        }
        // Whether the shell has ended since the last command.
        let news = outside.wait(&[], &[], false, Some(Instant::now()))?;
        self.note(&news);
        let mut shell = self.ready_shell(outside)?;
        // What was printed in the background since the last command ended is nobody's.
        shell.read_output(&mut Capture::new(0))?;
        let (begin, mut capture) = (Instant::now(), Capture::new(max_output));
        self.next_look = begin + Police::interval();
        shell.give(command)?;
        self.shell = Some(shell);
        let end = self.follow(&mut capture, begin + timeout, outside)?;
        if !matches!(end, CommandEnd::Exited { .. }) {
            self.shell = None;
        }
        if matches!(end, CommandEnd::TimedOut | CommandEnd::LimitPassed { .. }) {
            self.end_all()?;
        }
        let (output, cut_bytes) = capture.finish();
        Ok(Executed { end, output, cut_bytes, elapsed: begin.elapsed() })
    }

    /// Follows a command to its end.
    fn follow(&mut self, capture: &mut Capture, until: Instant, outside: &Outside) -> Result<CommandEnd, SlotError> {
        loop {
            let Some(shell) = &mut self.shell else { return Ok(CommandEnd::ShellEnded) };
            let writers: Vec<_> = shell.script().into_iter().collect();
            let next = until.min(self.next_look);
            let news = outside.wait(&[shell.output(), shell.status()], &writers, false, Some(next))?;
            shell.push()?;
            // Asked before the output is read: whatever the command printed is in the pipe by the time its end is known.
            let code = shell.code()?;
            shell.read_output(capture)?;
            if let Some(code) = code {
                self.note(&news);
                return Ok(CommandEnd::Exited { code });
            }
            self.note(&news);
            if let Some(limit) = self.police_look() {
                return Ok(CommandEnd::LimitPassed { limit });
            }
            if Instant::now() >= until {
                return Ok(CommandEnd::TimedOut);
            }
        }
    }

    /// A shell that has been heard of: the one that is there, or a new one.
    fn ready_shell(&mut self, outside: &Outside) -> Result<Shell, SlotError> {
        if let Some(shell) = self.shell.take() {
            return Ok(shell);
        }
        // A command may have taken the workspace from its owner too (`chmod -R 644 .`). Where it cannot be given back, the shell says so.
        let _ = disk::make_usable(self.files.workspace());
        let mut shell = Shell::start(&self.program, &self.confinement, &self.variables)?;
        let until = Instant::now() + SHELL_START;
        loop {
            let writers: Vec<_> = shell.script().into_iter().collect();
            let news = outside.wait(&[shell.status()], &writers, false, Some(until))?;
            shell.push()?;
            if shell.code()?.is_some() {
                return Ok(shell);
            }
            if news.ended.contains(&shell.pid()) {
                return Err(ShellError::Start(shell.last_words()).into());
            }
            if Instant::now() >= until {
                return Err(ShellError::Start("it does not read its script".to_owned()).into());
            }
        }
    }

    /// Lets go of the shell if it is among what ended.
    fn note(&mut self, news: &News) {
        let ended = |pid: Pid| news.ended.contains(&pid);
        if self.shell.as_ref().is_some_and(|shell| ended(shell.pid())) {
            self.shell = None;
        }
    }

    /// The limit that is passed, if it is time to look and any is.
    fn police_look(&mut self) -> Option<Limit> {
        if Instant::now() < self.next_look {
            return None;
        }
        let limit = self.police.look(&self.files.dirs());
        self.next_look = Instant::now() + Police::interval();
        limit
    }
}

fn not_run(end: CommandEnd, why: &str) -> Executed {
    Executed { end, output: why.to_owned(), cut_bytes: 0, elapsed: Duration::ZERO }
}

/// The most processes, where the kernel has to limit them. In a pod it must not, because it would count those of the same user on the whole node; a
/// slot in a PID namespace ends all at once, however many there are. Elsewhere a slot could otherwise fork faster than it is ended; what the kernel
/// counts there are all processes of the user, those that are there already included. Root's it never limits.
fn most_processes(policy: &Policy, scope: Scope, alone: bool) -> Option<u32> {
    let most = policy.processes.unwrap_or(MOST_PROCESSES);
    match scope {
        Scope::Namespace => alone.then_some(most),
        Scope::Descendants => Some(most.saturating_add(Scope::tasks_of_user())),
    }
}

/// Directories that are restored one by one must not lie in each other.
fn refuse_nested(paths: &[&PathBuf]) -> Result<(), SlotError> {
    let nested = |(at, inner): (usize, &&PathBuf)| {
        let outer = paths.iter().enumerate().find(|(other, outer)| *other != at && inner.starts_with(outer))?;
        Some(SlotError::Policy(format!(
            "{} lies in {}; commands may write to both, so they must be apart",
            inner.display(),
            outer.1.display()
        )))
    };
    paths.iter().enumerate().find_map(nested).map_or(Ok(()), Err)
}

/// The further directories of the policy: there, absolute, and not ones that would give everything away.
fn writable(policy: &Policy) -> Result<Vec<PathBuf>, SlotError> {
    let paths = policy.writable_paths.iter().map(|path| {
        let refused = |why: &str| SlotError::Policy(format!("the writable path {path} {why}"));
        let resolved = fs::canonicalize(path).map_err(|error| refused(&format!("cannot be used: {error}")))?;
        match resolved.to_str() {
            _ if !path.starts_with('/') => Err(refused("is not absolute")),
            Some("/" | "/dev" | "/proc" | "/sys") | None => Err(refused("is not one that commands may have")),
            Some(_) if !resolved.is_dir() => Err(refused("is no directory")),
            Some(_) => Ok(resolved),
        }
    });
    paths.collect()
}
