//! The tar file that a sandbox gets: the snapshot's files with their very bytes, and before them a `.git` with one commit, for the model's own git.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use tar::{Builder, HeaderMode};

use super::{CheckoutError, REPOSITORY, Tree, UNCHANGED};
use crate::git::Run;

/// The configuration of the model's repository: somebody to commit as, and no surprise.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n\
                      [user]\n\tname = developer\n\temail = developer@localhost\n[advice]\n\tdetachedHead = false\n[gc]\n\tauto = 0\n";
/// The same for object ids of sha256.
const SHA256_CONFIG: &str = "[core]\n\trepositoryformatversion = 1\n\tfilemode = true\n\tbare = false\n[extensions]\n\tobjectFormat = sha256\n\
                             [user]\n\tname = developer\n\temail = developer@localhost\n[gc]\n\tauto = 0\n";
/// The blocks of zeros that end a tar file, in bytes.
const END_OF_TAR: i64 = 1024;

impl Tree {
    /// Writes the tar file.
    pub(super) async fn write_archive(&self, repository: &Path) -> Result<(), CheckoutError> {
        let seed = self.folder.join("seed");
        self.write_seed(&seed).await?;
        let mut file = File::create(&self.archive)?;
        {
            let mut tar = Builder::new(BufWriter::new(&mut file));
            tar.mode(HeaderMode::Deterministic);
            tar.append_dir_all(".git", &seed)?;
            tar.into_inner()?.flush()?;
        }
        // What follows is a tar file of its own, and has an end of its own.
        file.seek(SeekFrom::End(-END_OF_TAR))?;
        std::fs::remove_dir_all(&seed)?;
        let repository = format!("--git-dir={}", repository.display());
        // Of the commit, not of its tree: then files have the commit's time, and what `ls -l` shows a model is the same in every rollout. The header with
        // the commit's id that comes first is passed over by whoever unpacks it.
        let arguments = [&repository, "-c", "tar.umask=0022", "archive", "--format=tar", &self.commit];
        let mut output = BufWriter::new(&mut file);
        self.git.run(Run { arguments: &arguments, ..Run::default() }, |bytes| output.write_all(bytes)).await?;
        output.flush()?;
        Ok(())
    }

    /// Writes a `.git` whose only branch is the snapshot.
    async fn write_seed(&self, seed: &Path) -> Result<(), CheckoutError> {
        for folder in ["objects/pack", "refs/heads", "refs/tags", "info"] {
            std::fs::create_dir_all(seed.join(folder))?;
        }
        std::fs::write(seed.join("HEAD"), "ref: refs/heads/main\n")?;
        std::fs::write(seed.join("refs/heads/main"), format!("{}\n", self.commit))?;
        std::fs::write(seed.join("config"), if self.commit.len() == 64 { SHA256_CONFIG } else { CONFIG })?;
        std::fs::write(seed.join("info/attributes"), UNCHANGED)?;
        let repository = format!("--git-dir={REPOSITORY}");
        let (pack, wanted) = (seed.join("objects/pack/pack"), format!("{}\n", self.commit));
        let pack = pack.to_string_lossy();
        let arguments = [repository.as_str(), "pack-objects", "--quiet", "--revs", "--threads=1", &pack];
        self.git.output(Run { arguments: &arguments, input: &wanted, ..Run::default() }).await?;
        let index = seed.join("index");
        let index = index.to_string_lossy();
        let environment = [("GIT_INDEX_FILE", index.as_ref())];
        let arguments = [repository.as_str(), "read-tree", &self.commit];
        self.git.output(Run { arguments: &arguments, environment: &environment, ..Run::default() }).await?;
        Ok(())
    }
}
