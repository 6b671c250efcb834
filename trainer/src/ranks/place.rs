//! Where a rank stands: its number, the world's size and where rank 0 is, from torchrun's variables or from an Indexed Job's. Nothing is connected
//! here.

/// The most ranks: the table of their addresses stays within one word of the rendezvous.
pub const MAX_WORLD: usize = 1024;

/// What torchrun sets where its agent itself listens at `MASTER_PORT`, for a store by which its own ranks would meet.
const OF_THE_AGENT: &str = "TORCHELASTIC_USE_AGENT_STORE";

/// A rank's place in its world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its number, from 0.
    pub rank: usize,
    /// How many ranks there are.
    pub world: usize,
    /// Its number on its node, from 0: which device it takes.
    pub local_rank: usize,
    /// Where rank 0 listens.
    pub master: Master,
}

/// Where rank 0 listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// A name or an address.
    pub host: String,
    /// A TCP port.
    pub port: u16,
}

/// How many processes a training is meant to have, where its configuration says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gang {
    /// How many nodes.
    pub nodes: usize,
    /// How many ranks on each of them.
    pub ranks_per_node: usize,
}

/// Variables that do not say where a rank stands.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlaceError {
    /// One is needed beside others.
    #[error(
        "{missing} is not set, though {because}: set it, or start the ranks with `sera-trainer launch` or torchrun"
    )]
    Missing {
        /// The variable.
        missing: &'static str,
        /// Why it is needed.
        because: String,
    },
    /// One is not a number.
    #[error("{variable} is {value:?}, which is not a whole number from 0 to {most}: correct it")]
    NotANumber {
        /// The variable.
        variable: &'static str,
        /// What it is.
        value: String,
        /// The highest number that it may be.
        most: usize,
    },
    /// Two contradict each other.
    #[error("{one} and {other}, which cannot both be: correct one of them")]
    Contradiction {
        /// What one says.
        one: String,
        /// What the other says.
        other: String,
    },
}

impl Place {
    /// The place of a rank that has no others.
    pub fn alone() -> Self {
        Self { rank: 0, world: 1, local_rank: 0, master: Master { host: "localhost".into(), port: 0 } }
    }

    /// Reads `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR` and `MASTER_PORT`, as torchrun sets them. Where `RANK` and `WORLD_SIZE` are not set
    /// and a gang is meant, the rank follows from an Indexed Job's `JOB_COMPLETION_INDEX` and `LOCAL_RANK`; where no gang is meant either, the rank
    /// is alone. Where torchrun's agent listens at `MASTER_PORT` itself, as it does since torch 2.4, rank 0 listens at the next port.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>, gang: Option<Gang>) -> Result<Self, PlaceError> {
        let number = |variable: &'static str, most: usize| read_number(&lookup, variable, most);
        let (rank, local_rank, world) = match (number("RANK", MAX_WORLD - 1)?, number("WORLD_SIZE", MAX_WORLD)?) {
            (Some(rank), Some(world)) => {
                let local_rank = number("LOCAL_RANK", MAX_WORLD - 1)?;
                let index = number("JOB_COMPLETION_INDEX", usize::MAX)?;
                agree(rank, world, local_rank, gang, index)?;
                (rank, local_rank.unwrap_or(0), world)
            }
            (Some(rank), None) => return Err(missing("WORLD_SIZE", format!("RANK is {rank}"))),
            (None, Some(world)) if world != 1 => return Err(missing("RANK", format!("WORLD_SIZE is {world}"))),
            (None, _) => {
                let gang = gang.unwrap_or(Gang { nodes: 1, ranks_per_node: 1 });
                from_index(gang, number("JOB_COMPLETION_INDEX", usize::MAX)?, number("LOCAL_RANK", MAX_WORLD - 1)?)?
            }
        };
        if world == 1 {
            return Ok(Self { local_rank, ..Self::alone() });
        }
        let because = || format!("there are {world} ranks, which meet where rank 0 listens");
        let host = lookup("MASTER_ADDR").filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| missing("MASTER_ADDR", because()))?;
        let port = read_number(&lookup, "MASTER_PORT", u16::MAX.into())?;
        let port = port.and_then(|port| u16::try_from(port).ok()).ok_or_else(|| missing("MASTER_PORT", because()))?;
        let port = if lookup(OF_THE_AGENT).as_deref() == Some("True") { beside(port) } else { port };
        Ok(Self { rank, world, local_rank, master: Master { host, port } })
    }
}

/// The port next to one that another program listens at.
fn beside(port: u16) -> u16 {
    port.checked_add(1).unwrap_or(port - 1)
}

fn missing(missing: &'static str, because: String) -> PlaceError {
    PlaceError::Missing { missing, because }
}

fn read_number(
    lookup: &impl Fn(&str) -> Option<String>,
    variable: &'static str,
    most: usize,
) -> Result<Option<usize>, PlaceError> {
    let Some(value) = lookup(variable) else { return Ok(None) };
    match value.parse() {
        Ok(number) if number <= most => Ok(Some(number)),
        _ => Err(PlaceError::NotANumber { variable, value, most }),
    }
}

/// Whether torchrun's variables agree among themselves, and with the gang and the Job's index where there are such.
fn agree(
    rank: usize,
    world: usize,
    local_rank: Option<usize>,
    gang: Option<Gang>,
    index: Option<usize>,
) -> Result<(), PlaceError> {
    let contradiction = |one: String, other: String| Err(PlaceError::Contradiction { one, other });
    if rank >= world {
        return contradiction(format!("RANK is {rank}"), format!("WORLD_SIZE is {world}"));
    }
    if let Some(local_rank) = local_rank.filter(|local_rank| *local_rank > rank) {
        return contradiction(format!("RANK is {rank}"), format!("LOCAL_RANK is {local_rank}"));
    }
    let Some(gang) = gang else { return Ok(()) };
    if gang.size() != world {
        return contradiction(format!("WORLD_SIZE is {world}"), format!("the configuration means {gang}"));
    }
    if let Some(local_rank) = local_rank.filter(|local_rank| *local_rank != rank % gang.ranks_per_node) {
        return contradiction(
            format!("RANK is {rank}"),
            format!("LOCAL_RANK is {local_rank} where the configuration means {gang}"),
        );
    }
    match index.filter(|index| *index != rank / gang.ranks_per_node) {
        Some(index) => contradiction(
            format!("RANK is {rank}"),
            format!("JOB_COMPLETION_INDEX is {index} where the configuration means {gang}"),
        ),
        None => Ok(()),
    }
}

/// Rank, local rank and world of a pod of an Indexed Job.
fn from_index(
    gang: Gang,
    index: Option<usize>,
    local_rank: Option<usize>,
) -> Result<(usize, usize, usize), PlaceError> {
    let because = || format!("the configuration means {gang} and RANK is not set");
    let world = gang.size();
    if world > MAX_WORLD || world == 0 {
        return Err(PlaceError::Contradiction {
            one: format!("the configuration means {gang}"),
            other: format!("there are from 1 to {MAX_WORLD} ranks"),
        });
    }
    let (index, local_rank) = match (index, local_rank) {
        (None, _) if gang.nodes > 1 => return Err(missing("JOB_COMPLETION_INDEX", because())),
        (_, None) if gang.ranks_per_node > 1 => return Err(missing("LOCAL_RANK", because())),
        // One node's ranks may be those of any one Job.
        (_, local_rank) if gang.nodes == 1 => (0, local_rank.unwrap_or(0)),
        (index, local_rank) => (index.unwrap_or(0), local_rank.unwrap_or(0)),
    };
    for (variable, number, most) in
        [("JOB_COMPLETION_INDEX", index, gang.nodes), ("LOCAL_RANK", local_rank, gang.ranks_per_node)]
    {
        if number >= most {
            return Err(PlaceError::Contradiction {
                one: format!("{variable} is {number}"),
                other: format!("the configuration means {gang}"),
            });
        }
    }
    Ok((index * gang.ranks_per_node + local_rank, local_rank, world))
}

impl Gang {
    /// How many ranks there are in all.
    pub fn size(self) -> usize {
        self.nodes.saturating_mul(self.ranks_per_node)
    }
}

impl std::fmt::Display for Gang {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ending = |count: usize| if count == 1 { "" } else { "s" };
        let (nodes, ranks) = (self.nodes, self.ranks_per_node);
        write!(f, "{nodes} node{} of {ranks} rank{}", ending(nodes), ending(ranks))
    }
}

impl std::fmt::Display for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)], gang: Option<(usize, usize)>) -> Result<Place, PlaceError> {
        let lookup =
            |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned());
        Place::from_env(lookup, gang.map(|(nodes, ranks_per_node)| Gang { nodes, ranks_per_node }))
    }

    fn refusal(variables: &[(&str, &str)], gang: Option<(usize, usize)>) -> String {
        place(variables, gang).unwrap_err().to_string()
    }

    const MASTER: [(&str, &str); 2] = [("MASTER_ADDR", "job-0.gang"), ("MASTER_PORT", "29501")];

    fn with_master<'a>(variables: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        [variables, &MASTER].concat()
    }

    #[test]
    fn torchruns_variables_say_where_a_rank_stands() {
        let found = place(&with_master(&[("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")]), None).unwrap();
        let master = Master { host: "job-0.gang".into(), port: 29501 };
        assert_eq!(found, Place { rank: 5, world: 8, local_rank: 1, master });
    }

    #[test]
    fn where_torchruns_agent_listens_at_the_port_ranks_meet_at_the_next_one() {
        let port = |port: &str, agents: &str| {
            let variables = [
                ("RANK", "0"),
                ("WORLD_SIZE", "2"),
                ("MASTER_ADDR", "a"),
                ("MASTER_PORT", port),
                (OF_THE_AGENT, agents),
            ];
            place(&variables, None).unwrap().master.port
        };
        assert_eq!((port("29500", "True"), port("65535", "True"), port("29500", "False")), (29501, 65534, 29500));
    }

    #[test]
    fn an_indexed_jobs_pod_finds_its_rank() {
        let variables = with_master(&[("JOB_COMPLETION_INDEX", "2"), ("LOCAL_RANK", "1")]);
        let found = place(&variables, Some((3, 4))).unwrap();
        assert_eq!((found.rank, found.world, found.local_rank), (9, 12, 1));
        let found = place(&with_master(&[("JOB_COMPLETION_INDEX", "1")]), Some((2, 1))).unwrap();
        assert_eq!((found.rank, found.world, found.local_rank), (1, 2, 0));
    }

    #[test]
    fn a_process_that_is_told_nothing_is_alone() {
        assert_eq!(place(&[], None).unwrap(), Place::alone());
        assert_eq!(place(&[("JOB_COMPLETION_INDEX", "3")], None).unwrap(), Place::alone());
        assert_eq!(place(&[("RANK", "0"), ("WORLD_SIZE", "1")], Some((1, 1))).unwrap(), Place::alone());
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(refusal(&[("RANK", "1")], None).starts_with("WORLD_SIZE is not set, though RANK is 1"));
        assert!(refusal(&[("WORLD_SIZE", "2")], None).starts_with("RANK is not set, though WORLD_SIZE is 2"));
        let two = [("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_PORT", "1")];
        assert!(refusal(&two, None).starts_with("MASTER_ADDR is not set"));
        let two = [("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "a")];
        assert!(refusal(&two, None).starts_with("MASTER_PORT is not set"));
        assert!(refusal(&[], Some((2, 1))).starts_with("JOB_COMPLETION_INDEX is not set"));
        assert!(refusal(&[("JOB_COMPLETION_INDEX", "0")], Some((2, 2))).starts_with("LOCAL_RANK is not set"));
    }

    #[test]
    fn what_is_no_number_is_named() {
        assert!(refusal(&[("RANK", "one")], None).starts_with("RANK is \"one\""));
        assert!(refusal(&[("RANK", "")], None).starts_with("RANK is \"\""));
        assert!(refusal(&[("RANK", "0"), ("WORLD_SIZE", "5000")], None).starts_with("WORLD_SIZE is \"5000\""));
        let port = [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "a"), ("MASTER_PORT", "65536")];
        assert!(refusal(&port, None).starts_with("MASTER_PORT is \"65536\""));
    }

    #[test]
    fn contradictions_name_both_sides() {
        let said = refusal(&[("RANK", "4"), ("WORLD_SIZE", "4")], None);
        assert!(said.starts_with("RANK is 4 and WORLD_SIZE is 4"), "{said}");
        let said = refusal(&[("RANK", "1"), ("WORLD_SIZE", "4")], Some((2, 4)));
        assert!(said.starts_with("WORLD_SIZE is 4 and the configuration means 2 nodes of 4 ranks"), "{said}");
        let said = refusal(&[("RANK", "1"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "0")], Some((1, 4)));
        assert!(said.starts_with("RANK is 1 and LOCAL_RANK is 0"), "{said}");
        let said = refusal(&[("RANK", "1"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "2")], None);
        assert!(said.starts_with("RANK is 1 and LOCAL_RANK is 2"), "{said}");
        let said = refusal(&[("RANK", "1"), ("WORLD_SIZE", "4"), ("JOB_COMPLETION_INDEX", "1")], Some((2, 2)));
        assert!(said.starts_with("RANK is 1 and JOB_COMPLETION_INDEX is 1"), "{said}");
        let said = refusal(&with_master(&[("JOB_COMPLETION_INDEX", "2")]), Some((2, 1)));
        assert!(said.starts_with("JOB_COMPLETION_INDEX is 2 and the configuration means 2 nodes of 1 rank"), "{said}");
    }
}
