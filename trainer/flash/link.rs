// Links the library that `images/trainer/cuda.sh flash` builds, for whoever builds with the feature `flash-attention`: part of build.rs.

/// Where the library is.
const FOLDER: &str = "SERA_FLASH_FOLDER";

pub(crate) fn link() {
    println!("cargo::rerun-if-env-changed={FOLDER}");
    if std::env::var_os("CARGO_FEATURE_FLASH_ATTENTION").is_none() {
        return;
    }
    let Ok(folder) = std::env::var(FOLDER) else {
        println!(
            "cargo::error=feature flash-attention wants {FOLDER}, the folder that images/trainer/cuda.sh flash fills"
        );
        return;
    };
    println!("cargo::rerun-if-changed={folder}/libsera_flash.a");
    println!("cargo::rustc-link-search=native={folder}");
    println!("cargo::rustc-link-lib=static=sera_flash");
    // CUDA's runtime comes from where candle's kernels have it; the kernels' host code wants the library of C++.
    println!("cargo::rustc-link-lib=dylib=cudart");
    println!("cargo::rustc-link-lib=dylib=stdc++");
}
