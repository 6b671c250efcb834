//! Names: of Kubernetes' objects, of images, of files and variables in a container.

use super::text::text_value;

text_value! {
    /// The name of a Kubernetes object: a DNS subdomain of at most 253 characters.
    ResourceName {
        kind: "a name of a Kubernetes object",
        expected: "lower-case letters, digits, '-' and '.', such as \"git-credentials\"",
        pattern: r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        chars: 1..=253,
        rules: [],
        accept: |_| true,
        explained: false,
    }
}

text_value! {
    /// A container image: `registry/repository:tag`, `…@sha256:…` or both.
    ImageRef {
        kind: "a container image",
        expected: "registry/repository:tag or registry/repository@sha256:…, in lower case, such as \"ghcr.io/acme/billing-env:1\"",
        pattern: r"^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?/)?[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$",
        chars: 1..=512,
        rules: [],
        accept: |_| true,
        explained: true,
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
        explained: false,
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
        explained: true,
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
        explained: false,
    }
}

text_value! {
    /// The part of a module's name in a model by which LoRA finds it, such as `q_proj`.
    ModuleName {
        kind: "a name of a module",
        expected: "lower-case letters, digits and '_', such as \"q_proj\"",
        pattern: r"^[a-z][a-z0-9_]*$",
        chars: 1..=63,
        rules: [],
        accept: |_| true,
        explained: false,
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
        explained: false,
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
        explained: false,
    }
}
