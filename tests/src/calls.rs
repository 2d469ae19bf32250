//! Workloads of a test: the examples of the library, each under an identifier of its own.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    process::{Child, Command, Output, Stdio},
};

use touchmark_client::{Peers, Source};

use crate::{dev::Dev, sim::binary};

/// The user that tests run as.
pub fn uid() -> u32 {
    std::fs::metadata("/proc/self").expect("/proc").uid()
}

/// Registers examples of the library, each under `spiffe://example.org/<name>`.
pub fn register(dev: &Dev, workloads: &[(&str, &str)]) {
    register_in(dev, workloads, "hardware");
}

/// The same for keys of another custody class.
pub fn register_in(dev: &Dev, workloads: &[(&str, &str)], custody: &str) {
    let mut text = "label = \"calls\"\n".to_owned();
    for (name, example) in workloads {
        let exe = binary(&format!("examples/{example}"));
        text += &format!(
            "[[registration]]\nname = \"{name}\"\nidentifier = \"{}\"\nworkload = {{ uid = {}, exe = \"{}\" }}\nkinds = [\"x509\", \"wit\"]\ncustody = [\"{custody}\"]\n",
            identifier(name),
            uid(),
            exe.display()
        );
    }
    let file = dev.file("calls.toml", &text);
    dev.json(&["registration", "apply", "-f", &file, "--prune"]);
    // The tests' own user has an identity by that; an example is to be what it is registered as, and nothing else.
    dev.touchmark(&["registration", "delete", &format!("dev/user-{}", uid())]);
}

/// The identifier of a workload.
pub fn identifier(name: &str) -> String {
    format!("spiffe://example.org/{name}")
}

/// An example that serves; dropping it ends it.
pub struct Serving {
    child: Child,
    /// Where it listens.
    pub address: String,
}

impl Serving {
    /// Starts an example and waits until it says where it listens.
    pub fn start(dev: &Dev, example: &str, clients: &[&str]) -> Self {
        Self::start_as(command(dev, example), clients)
    }

    /// The same for a command that is more than an example in host 1's environment.
    pub fn start_as(mut command: Command, clients: &[&str]) -> Self {
        let mut child = command
            .arg("127.0.0.1:0")
            .args(clients.iter().map(|name| identifier(name)))
            .stdout(Stdio::piped())
            .spawn()
            .expect("a server");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped"))
            .read_line(&mut line)
            .expect("a line");
        let address = line
            .trim()
            .rsplit_once(' ')
            .unwrap_or_else(|| panic!("no address: {line:?}"))
            .1
            .to_owned();
        Self { child, address }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An example's command line, in the environment of host 1.
pub fn command(dev: &Dev, example: &str) -> Command {
    dev.command(binary(&format!("examples/{example}")))
}

/// Runs a client against a server that is expected to be `server`.
pub fn call(dev: &Dev, example: &str, server: &str, uris: &[&str]) -> Output {
    command(dev, example)
        .arg(identifier(server))
        .args(uris)
        .output()
        .expect("a client")
}

/// Runs what is asynchronous on two threads.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

/// This process's own identity on host 1.
pub async fn source(dev: &Dev) -> Source {
    let socket = dev.description()["hosts"][0]["agent_socket"].clone();
    let socket = socket.as_str().expect("a socket").to_owned();
    Source::builder()
        .socket(socket)
        .connect()
        .await
        .expect("an identity")
}

/// Who this process is, by its user.
pub fn this_process() -> String {
    identifier(&format!("user/{}", uid()))
}

/// Only this process, on its simulated TPM.
pub fn own_peers() -> Peers {
    Peers::only([this_process()])
        .expect("an identifier")
        .accepting_simulated()
}
