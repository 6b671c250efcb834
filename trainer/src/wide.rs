//! Work on rows of numbers with the widest instructions that the processor has, written as plain loops. What needs vectors by name is in
//! `inference::simd`.

/// Makes a function whose body is compiled once more for the widest instructions that the processor has; references among its arguments live for `'w`.
/// What the body calls has to be `inline(always)` to have part in that, and so do closures in it: hence no function takes one, since whether the
/// compiler puts a closure's body where those instructions are is its own decision, and where it does not, each multiply-add is a call.
macro_rules! wide {
    ($visibility:vis fn $name:ident($($argument:ident: $type:ty),+ $(,)?) -> $output:ty $body:block) => {
        $visibility fn $name<'w>($($argument: $type),+) -> $output {
            struct Work<'w> {
                $($argument: $type),+
            }
            impl<'w> pulp::NullaryFnOnce for Work<'w> {
                type Output = $output;

                #[inline(always)]
                fn call(self) -> $output {
                    let Self { $($argument),+ } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Work { $($argument),+ })
        }
    };
}
pub(crate) use wide;
