//! The world that git sees: a folder with a configuration of our own and the credentials, and an environment that leads nowhere else. git always
//! runs *in* that folder, so that files are named without a path and nothing ever has to be quoted for a shell.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret;
use url::form_urlencoded::byte_serialize;

use super::access::{Access, Login};
use super::lines;
use super::url::{RemoteUrl, Transport};

/// Bytes a second; what is slower for as long as a server may be silent has stalled.
const LOW_SPEED_LIMIT: u32 = 1000;
/// Files larger than this are neither compared nor held in memory whole, as with git's own default of 512 MiB, but within a pod's memory.
const BIG_FILE: &str = "64m";
/// How much of packs git maps at once, and in what pieces: by default all of them, which a pod's memory is charged for.
const MAPPED: &str = "128m";
const MAPPED_AT_ONCE: &str = "16m";
/// How long ssh may take to connect, in seconds.
const SSH_CONNECT: u32 = 20;
/// ssh gives up a silent connection after four of these, in seconds.
const SSH_ALIVE: u32 = 15;

/// The file with the private key.
pub(super) const IDENTITY: &str = "identity";

/// Flaws that old but honest histories have, and that no checkout can be attacked with. Everything else that fsck calls an error stays one.
const HARMLESS_FLAWS: [&str; 7] = [
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
];

/// Variables of our own environment that git's helpers need: where programs are, and how the network is left.
const INHERITED: [&str; 9] = [
    "PATH",
    "HTTPS_PROXY",
    "https_proxy",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
];

/// git's home.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) folder: PathBuf,
    pub(crate) environment: Vec<(&'static str, OsString)>,
}

impl Home {
    /// Writes the configuration for one repository into `folder`, which only this user can read. `silence`: how long a server may say nothing.
    pub(crate) fn prepare(folder: &Path, url: &RemoteUrl, access: &Access, silence: Duration) -> std::io::Result<Self> {
        let mut ssh = String::from("false");
        let mut sections = vec![general(url.transport, silence)];
        if let Some(ca) = &access.ca {
            write_private(&folder.join("ca.crt"), ca)?;
            sections.push("[http]\n\tsslCAInfo = ca.crt\n".to_owned());
        }
        match &access.login {
            Login::Anonymous => {}
            Login::Password { username, password } => {
                // git's own helper hands them to this host and no other, wherever a redirect may lead.
                let entry = credential(url, username, password.expose_secret());
                write_private(&folder.join("git-credentials"), &entry)?;
                sections.push("[credential]\n\thelper = store --file=git-credentials\n".to_owned());
            }
            Login::Key { private_key, known_hosts } => {
                write_private(&folder.join(IDENTITY), private_key.expose_secret())?;
                write_private(&folder.join("known_hosts"), known_hosts)?;
                ssh = ssh_command(url.user.is_none());
            }
        }
        write_private(&folder.join("gitconfig"), &sections.concat())?;
        Ok(Self { folder: folder.to_owned(), environment: environment(folder, &ssh) })
    }
}

fn environment(folder: &Path, ssh: &str) -> Vec<(&'static str, OsString)> {
    let inherited = INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let places = [
        ("HOME", folder.as_os_str().to_owned()),
        ("TMPDIR", folder.as_os_str().to_owned()),
        // With its whole path: what serves a folder changes to it first.
        ("GIT_CONFIG_GLOBAL", folder.join("gitconfig").into_os_string()),
    ];
    let settings = [
        ("LC_ALL", "C"),
        ("TZ", "UTC"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_NO_LAZY_FETCH", "1"),
        ("GIT_SSH_VARIANT", "ssh"),
        ("GIT_SSH_COMMAND", ssh),
    ];
    let settings = settings.map(|(name, value)| (name, OsString::from(value)));
    inherited.chain(places).chain(settings).collect()
}

/// The configuration that every command runs under.
fn general(transport: Transport, silence: Duration) -> String {
    let seconds = silence.as_secs().max(1);
    let flaws = lines(HARMLESS_FLAWS.iter().map(|flaw| format!("\t{flaw} = ignore")));
    let protocols = lines(transport.protocols().iter().map(|name| format!("[protocol \"{name}\"]\n\tallow = always")));
    // A folder's owner is checked where others could have planted it; this one was named by the user. And what it serves, it serves to us.
    let folder = if transport.is_remote() {
        ""
    } else {
        "[safe]\n\tdirectory = *\n[uploadpack]\n\tallowFilter = true\n\tallowAnySHA1InWant = true\n"
    };
    format!(
        "[core]\n\thooksPath = /dev/null\n\tattributesFile = /dev/null\n\taskPass = \n\tfsmonitor = false\n\tbigFileThreshold = {BIG_FILE}\n\
         \tpackedGitLimit = {MAPPED}\n\tpackedGitWindowSize = {MAPPED_AT_ONCE}\n\
         [init]\n\tdefaultBranch = main\n\
         [protocol]\n\tallow = never\n\tversion = 2\n{protocols}\
         [transfer]\n\tfsckObjects = true\n\tunpackLimit = 1\n\
         [fetch]\n\twriteCommitGraph = false\n\trecurseSubmodules = false\n\
         [fetch \"fsck\"]\n{flaws}\
         [gc]\n\tauto = 0\n\
         [maintenance]\n\tauto = false\n\
         [http]\n\tlowSpeedLimit = {LOW_SPEED_LIMIT}\n\tlowSpeedTime = {seconds}\n\tfollowRedirects = initial\n\
         {folder}"
    )
}

/// A line of git's credential store.
fn credential(url: &RemoteUrl, username: &str, password: &str) -> String {
    let scheme = if url.transport == Transport::Https { "https" } else { "http" };
    format!("{scheme}://{}:{}@{}\n", percent_encoded(username), percent_encoded(password), url.host)
}

fn percent_encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// How git calls ssh: with this key and these hosts' keys, and nothing that this machine's own configuration or agent would add.
fn ssh_command(no_user_in_url: bool) -> String {
    let user = if no_user_in_url { " -o User=git" } else { "" };
    format!(
        "ssh -F none{user} -i {IDENTITY} -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes -o PreferredAuthentications=publickey \
         -o StrictHostKeyChecking=yes -o UserKnownHostsFile=known_hosts -o GlobalKnownHostsFile=/dev/null -o UpdateHostKeys=no \
         -o ForwardAgent=no -o ForwardX11=no -o PermitLocalCommand=no -o ConnectTimeout={SSH_CONNECT} -o ServerAliveInterval={SSH_ALIVE} \
         -o ServerAliveCountMax=4 -o LogLevel=ERROR"
    )
}

/// Writes a file that nobody else may read; ssh insists on it for keys.
fn write_private(path: &Path, content: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(content.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::SecretString;

    use super::*;

    fn home(url: &str, login: Login) -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let access = Access { login, ca: None };
        let home =
            Home::prepare(folder.path(), &RemoteUrl::parse(url).unwrap(), &access, Duration::from_mins(1)).unwrap();
        (folder, home)
    }

    #[test]
    fn a_password_is_in_a_private_file_and_nowhere_else() {
        let login = Login::Password { username: "a d@".into(), password: SecretString::from("p/w:%") };
        let (folder, home) = home("https://git.example:8443/a.git", login);
        let file = folder.path().join("git-credentials");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "https://a%20d%40:p%2Fw%3A%25@git.example:8443\n");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let elsewhere =
            format!("{:?}{}", home.environment, std::fs::read_to_string(folder.path().join("gitconfig")).unwrap());
        assert!(!elsewhere.contains("p/w") && !elsewhere.contains("p%2Fw"), "{elsewhere}");
    }

    #[test]
    fn only_the_protocol_of_the_url_is_let_through() {
        let (folder, _) = home("https://git.example/a.git", Login::Anonymous);
        let config = std::fs::read_to_string(folder.path().join("gitconfig")).unwrap();
        assert!(config.contains("[protocol]\n\tallow = never"));
        assert!(config.contains("[protocol \"https\"]\n\tallow = always"));
        assert!(!config.contains("\"http\"") && !config.contains("\"file\"") && !config.contains("safe"), "{config}");
    }

    #[test]
    fn the_environment_is_ours_and_holds_nothing_of_the_users() {
        let (_folder, home) = home("https://git.example/a.git", Login::Anonymous);
        let names: Vec<&str> = home.environment.iter().map(|(name, _)| *name).collect();
        for name in ["USER", "SSH_AUTH_SOCK", "GIT_DIR", "XDG_CONFIG_HOME"] {
            assert!(!names.contains(&name));
        }
        assert!(home.environment.contains(&("GIT_TERMINAL_PROMPT", "0".into())));
    }
}
