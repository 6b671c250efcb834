//! Specs of both kinds, as YAML: what is taken is written and read again without a loss, and quantities are numbers or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sera_crds::batch::BatchSpec;
use sera_crds::common::quantity;
use sera_crds::run::RunSpec;
use serde_json::{from_value, to_value};

fuzz_target!(|text: &str| {
    let _ = quantity::bytes(text);
    if let Ok(spec) = serde_yaml::from_str::<RunSpec>(text) {
        assert_eq!(from_value::<RunSpec>(to_value(&spec).unwrap()).unwrap(), spec);
    }
    if let Ok(spec) = serde_yaml::from_str::<BatchSpec>(text) {
        assert_eq!(from_value::<BatchSpec>(to_value(&spec).unwrap()).unwrap(), spec);
    }
});
