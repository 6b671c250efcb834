//! Specs of every shape survive JSON and YAML, and the values that they are made of accept exactly what their schemas accept.

use proptest::{prelude::*, string::string_regex, test_runner::TestCaseResult};
use sera_crds::{
    batch::BatchSpec,
    run::RunSpec,
    values::{
        ContainerPath, Decimal, Duration, EnvName, GitUrl, Glob, HttpUrl, ImageRef, LabelValue, ModelUri, ModuleName,
        Rate, Ratio, ResourceName, Sha256, StoreUri, TextValue, Timeout, Usd,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use crate::strategies;

fn survives<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) -> TestCaseResult {
    let json = serde_json::to_string(value).unwrap();
    prop_assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value);
    let yaml = serde_yaml::to_string(value).unwrap();
    prop_assert_eq!(&serde_yaml::from_str::<T>(&yaml).unwrap(), value);
    Ok(())
}

proptest! {
    #[test]
    fn a_run_survives_json_and_yaml(spec in strategies::run()) {
        survives::<RunSpec>(&spec)?;
    }

    #[test]
    fn a_batch_survives_json_and_yaml(spec in strategies::batch()) {
        survives::<BatchSpec>(&spec)?;
    }
}

/// What fits the schema parses and keeps its form, and what parses fits the schema; the schema's CEL rules are evaluated.
fn schema_and_type_agree<T: TextValue + schemars::JsonSchema>() {
    // The characters that patterns are about, so that near misses are frequent.
    let near_misses = string_regex(r"[0-9a-fA-Fghmstz:/@._e+ -]{0,24}").unwrap();
    let texts = prop_oneof![strategies::drawn_from(T::PATTERN), near_misses];
    let pattern = regex_lite::Regex::new(T::PATTERN).unwrap();
    proptest!(|(text in texts)| {
        let fits = pattern.is_match(&text) && (T::MIN_CHARS..=T::MAX_CHARS).contains(&text.chars().count());
        let admitted = fits && kube::core::cel::validate_cel_schema::<T>(&text.clone().into(), None).is_ok();
        let parsed = text.parse::<T>();
        prop_assert_eq!(parsed.is_ok(), admitted, "{:?}", text);
        if let Ok(value) = parsed {
            prop_assert_eq!(value.to_string(), text);
        }
    });
}

macro_rules! values_agree_with_their_schemas {
    ($($test:ident: $value:ty),+ $(,)?) => {
        $(#[test]
        fn $test() {
            schema_and_type_agree::<$value>();
        })+
    };
}

values_agree_with_their_schemas! {
    ratios_agree_with_their_schema: Ratio,
    money_agrees_with_its_schema: Usd,
    rates_agree_with_their_schema: Rate,
    decimals_agree_with_their_schema: Decimal,
    durations_agree_with_their_schema: Duration,
    timeouts_agree_with_their_schema: Timeout,
    stores_agree_with_their_schema: StoreUri,
    models_agree_with_their_schema: ModelUri,
    git_urls_agree_with_their_schema: GitUrl,
    http_urls_agree_with_their_schema: HttpUrl,
    images_agree_with_their_schema: ImageRef,
    globs_agree_with_their_schema: Glob,
    paths_agree_with_their_schema: ContainerPath,
    variables_agree_with_their_schema: EnvName,
    names_agree_with_their_schema: ResourceName,
    labels_agree_with_their_schema: LabelValue,
    modules_agree_with_their_schema: ModuleName,
    digests_agree_with_their_schema: Sha256,
}
