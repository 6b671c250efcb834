//! Names: of Kubernetes' objects, of images, of files and variables in a container.

use super::text::{TextValue, text_value};

text_value! {
    /// The name of a Kubernetes object: a DNS subdomain of at most 253 characters.
    ResourceName {
        kind: "a name of a Kubernetes object",
        expected: "lower-case letters, digits, '-' and '.'",
        pattern: r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        chars: 1..=253,
        rules: [],
        accept: |_| true,
    }
}

text_value! {
    /// The name of a Kueue queue: what Kueue reads is a label of the Job, whose value has at most 63 characters.
    QueueName {
        kind: "a name of a queue",
        expected: "lower-case letters, digits, '-' and '.', at most 63 of them",
        pattern: ResourceName::PATTERN,
        chars: 1..=63,
        rules: [],
        accept: |_| true,
    }
}

text_value! {
    /// A container image: `registry/repository:tag`, `…@sha256:…` or both.
    ImageRef {
        kind: "a container image",
        expected: "registry/repository:tag or registry/repository@sha256:…, in lower case, such as \"ghcr.io/acme/billing-env:1\"",
        pattern: r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?/)?[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$",
        chars: 1..=512,
        rules: [],
        accept: |_| true,
    }
}

text_value! {
    /// A glob over the repository's paths, relative to its root: `src/**`, `*.py`. Whether it is a good one is asked by
    /// `validate`, since CEL cannot.
    Glob {
        kind: "a glob",
        expected: "a path pattern relative to the repository's root, of at most 128 characters, such as \"src/**\"",
        pattern: r"^[^/\x00-\x1f\x7f][^\x00-\x1f\x7f]*$",
        chars: 1..=128,
        rules: [],
        accept: |_| true,
    }
}

text_value! {
    /// An absolute path in a container, without `.` or `..` in it.
    ContainerPath {
        kind: "an absolute path",
        expected: "an absolute path without '.', '..', '//' or ':' in it, such as \"/testbed\"",
        pattern: r"^(/([A-Za-z0-9_+@=,~-][A-Za-z0-9._+@=,~-]*|\.[A-Za-z0-9_+@=,~-][A-Za-z0-9._+@=,~-]*))+$",
        chars: 2..=128,
        rules: [],
        accept: |_| true,
    }
}

text_value! {
    /// The name of an environment variable.
    EnvName {
        kind: "a name of an environment variable",
        expected: "letters, digits and '_', not a digit first, such as \"PYTHONPATH\"",
        pattern: r"^[A-Za-z_][A-Za-z0-9_]*$",
        chars: 1..=128,
        rules: [],
        accept: |_| true,
    }
}

text_value! {
    /// The part of a module's name in a model by which `LoRA` finds it, such as `q_proj`.
    ModuleName {
        kind: "a name of a module",
        expected: "lower-case letters, digits and '_', such as \"q_proj\"",
        pattern: r"^[a-z][a-z0-9_]*$",
        chars: 1..=63,
        rules: [],
        accept: |_| true,
    }
}

text_value! {
    /// The value of a Kubernetes label.
    LabelValue {
        kind: "a label's value",
        expected: "at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends",
        pattern: r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        chars: 0..=63,
        rules: [],
        accept: |_| true,
    }
}

text_value! {
    /// A sha256 digest in lower-case hexadecimal.
    Sha256 {
        kind: "a sha256 digest",
        expected: "64 lower-case hexadecimal digits",
        pattern: r"^[0-9a-f]{64}$",
        chars: 64..=64,
        rules: [],
        accept: |_| true,
    }
}

impl Sha256 {
    /// The digest of these bytes, as a hasher gives them.
    pub fn of_digest(bytes: [u8; 32]) -> Self {
        use std::fmt::Write;
        let mut text = String::with_capacity(64);
        for byte in bytes {
            // Writing to a text does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_what_container_runtimes_pull() {
        let digest = format!("ghcr.io/acme/env@sha256:{}", "a".repeat(64));
        for image in [
            "busybox",
            "ghcr.io/acme/billing-env:1",
            "localhost:5000/a/b__c:v1.2_3",
            "localhost/sera-rollout:test",
            &digest,
        ] {
            assert!(image.parse::<ImageRef>().is_ok(), "{image}");
        }
        for image in [
            "",
            "UPPER/case",
            "ghcr.io/acme/env:",
            "ghcr.io/acme/env@sha256:12",
            "https://ghcr.io/a/b",
            "a b",
            "a/b:-x",
            "/a",
        ] {
            assert!(image.parse::<ImageRef>().is_err(), "{image}");
        }
    }

    #[test]
    fn paths_are_absolute_and_lead_nowhere_else() {
        for path in ["/testbed", "/opt/venv", "/a/.cache", "/a-b_c/d+e"] {
            assert!(path.parse::<ContainerPath>().is_ok(), "{path}");
        }
        for path in ["/", "testbed", "/a/../b", "/a/./b", "/a//b", "/a/", "/..", "/a:b", "/a b", ""] {
            assert!(path.parse::<ContainerPath>().is_err(), "{path}");
        }
    }

    #[test]
    fn names_are_those_of_kubernetes() {
        assert!("git-credentials.v2".parse::<ResourceName>().is_ok() && "".parse::<LabelValue>().is_ok());
        for name in ["", "-a", "a-", "A", "a..b", "a_b", "a/b"] {
            assert!(name.parse::<ResourceName>().is_err(), "{name}");
        }
        assert!("gpu.large".parse::<QueueName>().is_ok() && "a".repeat(64).parse::<QueueName>().is_err());
        assert!("-a".parse::<LabelValue>().is_err() && "a".repeat(64).parse::<LabelValue>().is_err());
    }

    #[test]
    fn globs_are_relative_and_on_one_line() {
        assert!(
            "src/**/*.py".parse::<Glob>().is_ok() && "é/[".parse::<Glob>().is_ok(),
            "whether a glob is a good one is not asked here"
        );
        assert!("/src".parse::<Glob>().is_err() && "a\nb".parse::<Glob>().is_err() && "".parse::<Glob>().is_err());
    }
}
