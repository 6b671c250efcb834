//! Which tests may be at work at once.

use tokio::sync::watch;

/// How a test goes with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    /// Beside others.
    Welcome,
    /// Beside others, and on a cluster of ours only, because it reaches into the node.
    AtHome,
    /// Beside others that kill the operator or replace it, as it does, and on a cluster of ours only.
    Shaking,
    /// Alone, because it breaks what others stand on. Only a cluster of ours is there to be broken.
    Alone,
    /// Alone, and only with `--ignored`: what it stands on takes minutes to build.
    Asked,
}

/// Those that may be at work at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Calm,
    Shaking,
    Alone,
}

impl Company {
    fn kind(self) -> Kind {
        match self {
            Self::Welcome | Self::AtHome => Kind::Calm,
            Self::Shaking => Kind::Shaking,
            Self::Alone | Self::Asked => Kind::Alone,
        }
    }

    /// Where it stands among all tests: to wait for those of another kind is enough once.
    pub(crate) fn turn(self) -> usize {
        self.kind() as usize
    }

    /// Why it is left out on a cluster that is not ours, where it is.
    pub(crate) fn keeps_off(self) -> Option<&'static str> {
        match self {
            Self::Welcome => None,
            Self::AtHome => Some("it reaches into the node of KUBECONFIG's cluster"),
            Self::Shaking | Self::Alone | Self::Asked => Some("it would break the cluster of KUBECONFIG"),
        }
    }
}

/// The tests that are at work: all of one kind.
#[derive(Debug, Default)]
pub(crate) struct Circle {
    at_work: watch::Sender<Option<(Kind, usize)>>,
}

impl Circle {
    /// Waits until a test may be at work, which it is until the value is dropped.
    pub(crate) async fn join(&self, company: Company) -> Member<'_> {
        let kind = company.kind();
        let mut changes = self.at_work.subscribe();
        let takes_a_place = |at_work: &mut Option<(Kind, usize)>| {
            let beside = match *at_work {
                None => 0,
                Some((theirs, number)) if theirs == kind && kind != Kind::Alone => number,
                Some(_) => return false,
            };
            *at_work = Some((kind, beside + 1));
            true
        };
        while !self.at_work.send_if_modified(takes_a_place) {
            // The sender is `self`, and so it is there.
            let _ = changes.changed().await;
        }
        Member { circle: self }
    }
}

/// A test that is at work.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    circle: &'a Circle,
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.circle.at_work.send_modify(|at_work| {
            *at_work = at_work.and_then(|(kind, number)| (number > 1).then(|| (kind, number - 1)));
        });
    }
}
