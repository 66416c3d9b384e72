//! Asking for the time over real sockets, of servers that are right, wrong and silent.

#![expect(clippy::tests_outside_test_module, reason = "this file is nothing but tests")]

use std::{
    net::UdpSocket,
    time::{Duration, Instant, SystemTime},
};

use bramble_network::sntp::{self, AskError};

/// A server on a port of its own whose clock is ahead by so much, and that changes its answers.
fn server(ahead_s: i64, change: impl Fn(&mut [u8; 48]) + Send + 'static) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let name = socket.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let mut question = [0; 48];
        while let Ok((_, from)) = socket.recv_from(&mut question) {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("now");
            let seconds = (since.as_secs() + 2_208_988_800).wrapping_add_signed(ahead_s);
            let seconds = u32::try_from(seconds & 0xffff_ffff).expect("it fits");
            let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
            let fraction = u32::try_from(fraction).expect("it fits");
            let mut answer = [0; 48];
            answer[..2].copy_from_slice(&[4 << 3 | 4, 2]);
            answer[24..32].copy_from_slice(&question[40..48]);
            for at in [32, 40] {
                answer[at..at + 4].copy_from_slice(&seconds.to_be_bytes());
                answer[at + 4..at + 8].copy_from_slice(&fraction.to_be_bytes());
            }
            change(&mut answer);
            if socket.send_to(&answer, from).is_err() {
                return;
            }
        }
    });
    name
}

fn sound(ahead_s: i64) -> String {
    server(ahead_s, |_| {})
}

#[tokio::test]
async fn most_servers_outvote_one_that_lies() {
    let servers = [sound(7), sound(86_400), sound(7)];
    let began = Instant::now();
    let sample = sntp::ask(&servers).await.expect("two agree");
    assert!((6_500_000_000..7_500_000_000).contains(&sample.ahead_ns), "{sample:?}");
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn two_that_contradict_each_other_are_not_believed() {
    let outcome = sntp::ask(&[sound(0), sound(3600)]).await;
    assert!(matches!(outcome, Err(AskError::Disagreement(_))), "{outcome:?}");
}

#[tokio::test]
async fn insane_servers_are_left_aside() {
    let insane = [
        server(50, |answer| answer[1] = 0),
        server(50, |answer| answer[0] |= 0xc0),
        server(50, |answer| answer[1] = 16),
        server(50, |answer| answer[24] ^= 1),
        server(50, |answer| answer[32..36].fill(0)),
        "127.0.0.1:1".to_owned(),
        sound(3),
    ];
    let sample = sntp::ask(&insane).await.expect("one is sane");
    assert!((2_500_000_000..3_500_000_000).contains(&sample.ahead_ns), "{sample:?}");
}

#[tokio::test]
async fn nobody_waits_long_for_silent_servers() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let name = silent.local_addr().expect("an address").to_string();
    let began = Instant::now();
    let outcome = sntp::ask(&[name]).await;
    assert!(matches!(outcome, Err(AskError::Nobody { .. })), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
    let unwelcome = server(0, |answer| answer[1] = 0);
    assert!(matches!(sntp::ask(&[unwelcome]).await, Err(AskError::Unwelcome)));
}
