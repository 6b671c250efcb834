//! What commands that write a model have in common: where to, in which type, in how long files.

use std::path::{Path, PathBuf};

use candle_core::DType;
use clap::{Args, ValueEnum};
use sera_crds::contract::{ExitCode, FileDigest};

use super::failure::{Failure, print};

/// The type of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum WeightType {
    /// 32 bits
    F32,
    /// 16 bits, with the range of 32
    Bf16,
    /// 16 bits, with more precision and less range
    F16,
}

impl From<WeightType> for DType {
    fn from(dtype: WeightType) -> Self {
        match dtype {
            WeightType::F32 => Self::F32,
            WeightType::Bf16 => Self::BF16,
            WeightType::F16 => Self::F16,
        }
    }
}

/// Where a model is written.
#[derive(Debug, Args)]
pub(super) struct OutArgs {
    /// The directory to write the model to; it is made where it is not there
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// The longest a file of weights may be, such as 500MB or 5GB; what is longer becomes several with an index
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = size)]
    pub(super) max_shard: u64,
    /// Replace a model that is in the directory already
    #[arg(long)]
    pub(super) replace: bool,
}

impl OutArgs {
    /// Whether the directory may be written to.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.replace || !self.out.join("config.json").exists() {
            return Ok(());
        }
        let message = format!("{} has a model already; name another directory, or add --replace", self.out.display());
        Err(Failure { code: ExitCode::Conflict, message })
    }
}

/// Says what was written.
pub(super) fn report(out: &Path, files: &[FileDigest]) -> Result<(), Failure> {
    let lines = files.iter().map(|file| format!("{}  {:>13}  {}\n", file.sha256, file.bytes, file.name));
    print(&format!("{}wrote {} files to {}\n", lines.collect::<String>(), files.len(), out.display()))
}

/// A number of bytes, with a unit of a thousand's power or without.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(format!("{unit:?} is not one of B, KB, MB, GB")),
    };
    let bytes = number.parse().ok().and_then(|number: u64| number.checked_mul(factor));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| "a size such as 500MB is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        assert_eq!((size("5GB"), size("12"), size("3kb")), (Ok(5_000_000_000), Ok(12), Ok(3000)));
        for wrong in ["", "GB", "0", "5GiB", "-1", "99999999999GB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
