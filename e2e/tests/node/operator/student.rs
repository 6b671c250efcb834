//! The small student where a test's pods find it.

use anyhow::Result;
use sera_e2e::small_student::{self, TOKENIZER};

use super::ground::Ground;

/// Where it lies, on the claim of every test's store.
pub(super) const STUDENT: &str = "pvc://store/students/small";

/// Puts the student on the store's claim.
pub(super) async fn lay_student(ground: &Ground) -> Result<()> {
    let url = ground.serve("acme/student.git", &small_student::files()?).await?;
    let script = format!(
        "mkdir -p /mnt/store/students
         git clone --quiet {url} /mnt/store/students/small
         cd /opt/sera/students/tiny
         cp {} /mnt/store/students/small",
        TOKENIZER.join(" ")
    );
    ground.in_store("lay-student", &script).await?;
    Ok(())
}
