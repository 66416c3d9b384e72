//! Boards report to a real broker, which comes and goes. Needs mosquitto and its clients.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
};

use crate::lab::Lab;

/// A mosquitto on board 3's network, where the boards reach it by a real address.
struct Broker {
    process: Child,
}

impl Broker {
    fn start(lab: &Lab) -> Self {
        let config = lab.folder().join("mosquitto.conf");
        let text = "listener 1883 0.0.0.0\nallow_anonymous true\npersistence false\nuser root\n";
        fs::write(&config, text).expect("the configuration is written");
        let process = lab.on_board(3, "mosquitto").arg("-c").arg(&config).spawn();
        Self { process: process.expect("mosquitto is installed (tests/run installs it)") }
    }

    fn stop(mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it ends");
    }
}

/// Everything published from now on, `topic payload` a line.
struct Listener {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Listener {
    fn start(lab: &Lab) -> Self {
        let mut process = lab
            .on_board(3, "mosquitto_sub")
            .args(["-h", "10.67.0.3", "-v", "-t", "bramble/#"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto_sub is installed (tests/run installs it)");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (reader, seen) = (process.stdout.take().expect("a pipe"), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                seen.lock().expect("no panic").push(line);
            }
        });
        Self { process, lines }
    }

    fn has(&self, holds: impl Fn(&str) -> bool) -> bool {
        self.lines.lock().expect("no panic").iter().any(|line| holds(line))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn add_mqtt(config: &Path) {
    let mut text = fs::read_to_string(config).expect("the board has a configuration");
    text.push_str("\n[mqtt]\nurl = \"mqtt://10.67.0.3\"\n");
    fs::write(config, text).expect("it is written");
}

#[test]
fn boards_report_to_a_broker_that_comes_and_goes() {
    let lab = Lab::with_whoami(3);
    for board in 1..=3_u8 {
        add_mqtt(&lab.folder().join(board.to_string()).join("bramble.toml"));
        lab.kill(board);
        lab.start(board);
    }
    lab.wait_until_whole();
    let broker = Broker::start(&lab);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let listener = Listener::start(&lab);
    for board in 1..=3 {
        let name = format!("\"hostname\":\"board{board}\"");
        lab.wait("each board says how it is", || {
            listener.has(|line| line.contains("/state") && line.contains(&name))
        });
    }
    let online = || {
        let lines = listener.lines.lock().expect("no panic");
        lines.iter().filter(|line| line.ends_with("/availability online")).count()
    };
    lab.wait("all boards are online", || online() >= 3);
    lab.docker(
        1,
        &["service", "create", "--quiet", "--name", "told", "--network", "host", "whoami"],
    );
    lab.wait("the service is told", || {
        listener.has(|line| line.contains("\"name\":\"told\"") && line.contains("\"running\":1"))
    });
    lab.kill(2);
    lab.wait("the loss is told", || {
        listener.has(|line| line.contains("board_down") && line.contains("board2"))
    });
    lab.wait("the last will says offline", || {
        listener.has(|line| line.ends_with("/availability offline"))
    });
    lab.start(2);
    lab.wait_until_whole();

    // A broker that forgot everything hears all of it again.
    drop(listener);
    broker.stop();
    let broker = Broker::start(&lab);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let listener = Listener::start(&lab);
    lab.wait("everything is told again", || {
        listener.has(|line| line.contains("\"name\":\"told\""))
            && (1..=3).all(|board| {
                listener.has(|line| line.contains(&format!("\"hostname\":\"board{board}\"")))
            })
    });
    drop(listener);
    broker.stop();
}
