//! Compiles the kernels for GPUs (`kernels/*.cu`) to PTX, which the program carries and a driver translates, and links `FlashAttention` where
//! that is asked for; nothing unless feature `cuda` is on.

#[path = "flash/link.rs"]
mod flash;

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the kernels need at least: Ampere, for bf16.
const LEAST: &str = "80";
/// Products and sums are rounded one after the other, as where they are operations of their own.
const OPTIONS: [&str; 3] = ["-std=c++17", "-O3", "--fmad=false"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    flash::link();
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    println!("cargo::rerun-if-changed=kernels");
    for name in ["CUDA_COMPUTE_CAP", "NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let (compiler, out) = (compiler(), PathBuf::from(env::var("OUT_DIR")?));
    for source in sources(Path::new("kernels"))? {
        let ptx = out.join(source.file_name().unwrap_or_default()).with_extension("ptx");
        compile(&compiler, &source, &ptx)?;
    }
    Ok(())
}

/// NVIDIA's compiler, as the tensor library's build looks for it.
fn compiler() -> PathBuf {
    let of_home = |name| env::var_os(name).map(|home| Path::new(&home).join("bin/nvcc"));
    let found = [env::var_os("NVCC").map(PathBuf::from), of_home("CUDA_HOME"), of_home("CUDA_PATH")];
    found.into_iter().flatten().find(|path| path.exists()).unwrap_or_else(|| PathBuf::from("nvcc"))
}

/// The files with kernels, always in the same order.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cu") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Compiles a source to PTX, for GPUs from the compute capability on that the build is for.
fn compile(compiler: &Path, source: &Path, ptx: &Path) -> Result<(), Box<dyn Error>> {
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| LEAST.to_owned());
    let mut command = Command::new(compiler);
    command.arg("--ptx").arg(format!("-arch=compute_{capability}")).args(OPTIONS).arg("-o").arg(ptx).arg(source);
    let output = command.output().map_err(|error| format!("{} cannot be run: {error}", compiler.display()))?;
    if !output.status.success() {
        return Err(format!("{}: {}", source.display(), String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}
