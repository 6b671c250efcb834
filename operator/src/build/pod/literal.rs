//! Containers whose arguments and values mean what they say: Kubernetes replaces `$(NAME)` in them, and makes one `$` of two.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Container;

/// The container with every `$` as it was meant, and of variables of one name the last: the API server applies no list that has two of one name.
pub(super) fn literal(mut container: Container) -> Container {
    let texts = container.command.iter_mut().chain(&mut container.args).flatten();
    texts.for_each(|text| *text = escaped(text));
    if let Some(variables) = &mut container.env {
        let mut later = HashSet::new();
        variables.reverse();
        variables.retain(|variable| later.insert(variable.name.clone()));
        variables.reverse();
        let values = variables.iter_mut().filter_map(|variable| variable.value.as_mut());
        values.for_each(|value| *value = escaped(value));
    }
    container
}

fn escaped(text: &str) -> String {
    text.replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, EnvVar};

    use super::literal;

    #[test]
    fn what_an_owner_writes_is_what_the_program_gets_and_of_two_values_it_is_the_owners() {
        let variable = |name: &str, value: &str| EnvVar {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..EnvVar::default()
        };
        let container = literal(Container {
            args: Some(vec!["--password=pa$$word".to_owned()]),
            env: Some(vec![
                variable("HOME", "/scratch"),
                variable("SETUP", "cd $(mktemp -d)"),
                variable("HOME", "/mine"),
            ]),
            ..Container::default()
        });
        assert_eq!(container.args.unwrap(), ["--password=pa$$$$word"]);
        assert_eq!(container.env.unwrap(), [variable("SETUP", "cd $$(mktemp -d)"), variable("HOME", "/mine")]);
    }
}
