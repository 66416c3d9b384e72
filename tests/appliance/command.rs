//! Programs that the harness runs, and what it was given to run them on.

use std::{
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Between two looks at a condition that costs nothing to look at.
const GLANCE: Duration = Duration::from_millis(20);

/// A file that `tests/run appliance` builds and names in the environment.
pub fn given(name: &str) -> PathBuf {
    let path = PathBuf::from(std::env::var_os(name).unwrap_or_else(|| {
        panic!("{name} is not set: `tests/run appliance` builds the images and sets it")
    }));
    assert!(
        path.is_file(),
        "{name}: {} is no file: `tests/run appliance` builds it",
        path.display()
    );
    path
}

/// Runs a program to its end; the test fails if it does.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = try_run(program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}", both(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program to its end, however that is.
pub fn try_run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| {
        panic!("{program} does not start ({error}): `tests/run tools` installs it")
    })
}

/// A program in a network namespace that dies by `signal` with the thread that started it, so that
/// a test which is killed leaves nothing behind.
pub fn in_namespace(namespace: &str, signal: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).args([
        "setpriv",
        "--pdeathsig",
        signal,
        program,
    ]);
    command
}

/// Everything that a program printed.
pub fn both(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Sends a signal to a process that this test started; one that has ended is no error.
pub fn signal(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    // It fails only if the process has ended, which is what the caller is after.
    let _ = kill_process(process.expect("a process id"), signal);
}

/// Waits for a condition and returns how long that took; the test fails after `patience`, with what
/// `story` tells.
pub fn wait_for(
    what: &str,
    patience: Duration,
    story: impl Fn() -> String,
    holds: impl FnMut() -> bool,
) -> Duration {
    wait_at(GLANCE, what, patience, story, holds)
}

/// As [`wait_for`], at a pace.
pub fn wait_at(
    pace: Duration,
    what: &str,
    patience: Duration,
    story: impl Fn() -> String,
    mut holds: impl FnMut() -> bool,
) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < patience, "{what}: not after {patience:?}\n{}", story());
        std::thread::sleep(pace);
    }
    started.elapsed()
}

/// Prints a figure that SPECIFICATION.md promises, and holds it to its bound.
pub fn promise(name: &str, figure: f64, bound: f64, unit: &str) {
    println!("figure: {name}: {figure:.3} {unit} (at most {bound} {unit})");
    assert!(figure <= bound, "{name}: {figure:.3} {unit} is over {bound} {unit}");
}

/// Random bytes as hexadecimal digits: keys, file contents.
pub fn random_hex(bytes: usize) -> String {
    use std::io::Read;
    let mut random = vec![0; bytes];
    let mut source = std::fs::File::open("/dev/urandom").expect("the kernel has random bytes");
    source.read_exact(&mut random).expect("the kernel has random bytes");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
