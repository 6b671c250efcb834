//! The network of one node: a link between the machine and the node's namespace, with a subnet of its own, so that any
//! number of nodes stand side by side. What goes on between pods is the bridge plugin's.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use crate::cluster::namespaces::inside;
use crate::cluster::process::ProcessId;

/// The link's name inside of the namespace.
const NODE_LINK: &str = "eth0";

/// The name of a node's link on the machine.
pub(in crate::cluster) fn link_name(number: u8) -> String {
    format!("sera{number}")
}

/// One of the 256 networks that nodes can have, 10.77.0.0/24 to 10.77.255.0/24.
#[derive(Clone, Copy, Debug)]
pub(in crate::cluster) struct Network {
    number: u8,
}

impl Network {
    pub(in crate::cluster) fn numbered(number: u8) -> Self {
        Self { number }
    }

    /// The machine's address, as pods see it.
    pub(in crate::cluster) fn host(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 77, self.number, 1))
    }

    /// The node's address, as the machine sees it.
    pub(in crate::cluster) fn node(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 77, self.number, 2))
    }

    /// Makes the first network that nobody has. A link's name is what claims it: the kernel gives it out once.
    /// `record` is told each number before it is tried.
    pub(in crate::cluster) fn create<E: From<io::Error>>(
        init: ProcessId,
        mut record: impl FnMut(u8) -> Result<(), E>,
    ) -> Result<Self, E> {
        for number in 0..=u8::MAX {
            if fs::exists(format!("/sys/class/net/{}", link_name(number)))? {
                continue;
            }
            record(number)?;
            let network = Self { number };
            if network.add_link(init)? {
                network.configure(init)?;
                return Ok(network);
            }
        }
        Err(io::Error::other("all of the links sera0 to sera255 are taken").into())
    }

    /// Adds the link; `false` if another node took its name first.
    fn add_link(self, init: ProcessId) -> io::Result<bool> {
        let (name, namespace) = (link_name(self.number), init.pid().to_string());
        let add = ["link", "add", &name, "type", "veth", "peer", "name", NODE_LINK, "netns", &namespace];
        let output = Command::new("ip").args(add).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(true),
            false if complaint.contains("File exists") => Ok(false),
            false => Err(io::Error::other(format!("ip {}: {}", add.join(" "), complaint.trim()))),
        }
    }

    fn configure(self, init: ProcessId) -> io::Result<()> {
        let (host, node, name) = (self.host(), self.node(), link_name(self.number));
        ip_batch(&format!("addr add {host}/24 dev {name}\nlink set {name} up\n"))?;
        inside(init, || {
            ip_batch(&format!(
                "addr add {node}/24 dev {NODE_LINK}\nlink set {NODE_LINK} up\nlink set lo up\nroute add default via {host}\n"
            ))?;
            // Between pods and to the machine: this switch is the namespace's own.
            fs::write("/proc/sys/net/ipv4/ip_forward", "1")
        })
    }
}

fn ip_batch(lines: &str) -> io::Result<()> {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = ip.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("ip: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
