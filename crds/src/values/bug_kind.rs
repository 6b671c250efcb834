//! The kinds of bugs that a first rollout is told to look for: the 51 of the paper's catalogue.

use super::choice::choice;

choice! {
    /// A kind of bug, as vague on purpose as a user's report is: it steers the teacher, and nothing is checked against
    /// it.
    BugKind: "a bug kind" {
        /// The code does not behave as its users expect; the most general kind.
        UnexpectedBehavior = "UnexpectedBehavior",
        /// Resources are opened, held or released at the wrong time.
        ResourceLifecycle = "ResourceLifecycle",
        /// Input of a wrong type or value is let through, or right input is refused.
        DataValidationAndTypes = "DataValidationAndTypes",
        /// Errors are swallowed, misreported or raised where they should not be.
        ErrorHandling = "ErrorHandling",
        /// Parts of the state contradict each other.
        StateConsistency = "StateConsistency",
        /// Something is set up wrongly, too late or not at all.
        ConfigurationAndInitialization = "ConfigurationAndInitialization",
        /// Threads or processes race, deadlock or see each other's half-done work.
        Concurrency = "Concurrency",
        /// A function does not keep what its interface promises.
        ApiContracts = "ApiContracts",
        /// Work is done that is not needed, or more often than needed.
        Performance = "Performance",
        /// Parts depend on each other where they should not.
        DependenciesAndCoupling = "DependenciesAndCoupling",
        /// A branch, loop or early return goes the wrong way.
        ControlFlow = "ControlFlow",
        /// Data is converted, mapped or merged wrongly.
        DataTransformation = "DataTransformation",
        /// Asynchronous work is awaited, ordered or cancelled wrongly.
        AsyncCoordination = "AsyncCoordination",
        /// The first, the last, the empty or the largest case is wrong.
        BoundaryConditions = "BoundaryConditions",
        /// What is documented is not what the code does.
        Documentation = "Documentation",
        /// Untrusted input reaches a place that it should not reach as it is.
        SecurityAndSanitization = "SecurityAndSanitization",
        /// The same logic stands in several places that drift apart.
        Duplication = "Duplication",
        /// What happens cannot be seen, or is reported wrongly.
        LoggingAndObservability = "LoggingAndObservability",
        /// It works on one platform or version and not on another.
        PlatformCompatibility = "PlatformCompatibility",
        /// A rule of the domain is applied wrongly.
        BusinessRules = "BusinessRules",
        /// After a failure it does not come back to a good state.
        FailureRecovery = "FailureRecovery",
        /// It breaks down as inputs or loads grow.
        Scalability = "Scalability",
        /// It departs from what the code base does everywhere else.
        Conventions = "Conventions",
        /// The code is more involved than its task, and that hides a fault.
        Complexity = "Complexity",
        /// Two parts do not fit where they meet.
        Integration = "Integration",
        /// A case that should be handled is not.
        MissingFunctionality = "MissingFunctionality",
        /// The same input does not give the same output.
        Determinism = "Determinism",
        /// What must hold before a call is not checked or not ensured.
        Preconditions = "Preconditions",
        /// A call changes something that its caller does not expect.
        SideEffects = "SideEffects",
        /// A detail leaks through an interface, or the interface hides what matters.
        Abstraction = "Abstraction",
        /// Something is stored or computed twice, and the two disagree.
        Redundancy = "Redundancy",
        /// Steps or items come in the wrong order.
        Ordering = "Ordering",
        /// The algorithm gives wrong results for some inputs.
        AlgorithmCorrectness = "AlgorithmCorrectness",
        /// What is returned or printed is wrong in content or form.
        OutputCorrectness = "OutputCorrectness",
        /// A dependency points the wrong way.
        CouplingDirection = "CouplingDirection",
        /// A name says something else than what it stands for.
        Naming = "Naming",
        /// The code misleads its reader.
        Readability = "Readability",
        /// The code cannot be exercised in isolation.
        Testability = "Testability",
        /// What used to work for callers no longer does.
        BackwardsCompatibility = "BackwardsCompatibility",
        /// What should always hold is broken for a while or for good.
        Invariants = "Invariants",
        /// A part does what is another part's task.
        Responsibility = "Responsibility",
        /// A value is fixed that should be a parameter, or a parameter is ignored.
        Parameterization = "Parameterization",
        /// A change that should happen whole or not at all can happen in part.
        Atomicity = "Atomicity",
        /// Memory, handles or other resources are used without bound.
        ResourceUse = "ResourceUse",
        /// It relies on variables, paths or settings of its surroundings wrongly.
        Environment = "Environment",
        /// Parts that should combine freely do not.
        Composability = "Composability",
        /// Times, time zones, timeouts or expiries are handled wrongly.
        TimeAndExpiry = "TimeAndExpiry",
        /// Doing it twice is not the same as doing it once.
        Idempotency = "Idempotency",
        /// An absent value is used as if it were there.
        NullSafety = "NullSafety",
        /// An object is used before it is ready or after it is done.
        ObjectLifecycle = "ObjectLifecycle",
        /// What is read or written goes to the wrong place or is lost on the way.
        InputOutputFlow = "InputOutputFlow",
    }
}

#[cfg(test)]
mod tests {
    use super::BugKind;

    #[test]
    fn the_catalogue_has_the_papers_51_kinds() {
        assert_eq!(BugKind::ALL.len(), 51);
    }
}
