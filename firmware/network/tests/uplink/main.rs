//! The uplink on a real kernel, against servers that do right and wrong. Needs root, as it makes
//! network namespaces.

#![expect(clippy::tests_outside_test_module, reason = "this file is nothing but tests")]

mod board;
mod dhcp_server;

use std::{
    net::{IpAddr, Ipv4Addr},
    process::Command,
    time::Duration,
};

use bramble_network::uplink::{Method, Origin, Settings};

use board::{Network, has};
use dhcp_server::{DhcpServer, Policy};

fn run(network: &Network, number: u8, line: &str) -> bool {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).stdout(std::process::Stdio::null());
    let child = network.segment.spawn(number, command);
    child.expect("it starts").wait().expect("it ends").success()
}

fn policy(address: Ipv4Addr) -> Policy {
    Policy { address, lease_s: 8, renew_s: 2, refuses: false }
}

#[tokio::test]
async fn a_server_gives_an_address_and_all_that_goes_with_it() {
    let network = Network::new([10, 67, 101, 0].into()).await;
    let server_address = network.segment.address(2);
    let first = network.segment.address(50);
    let server = DhcpServer::start(&network.namespace(2), "eth0", server_address, policy(first));
    let mut board = network.start(network.settings());

    let took = board.wait(5, |status| has(status, first, Origin::Dhcp)).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    board.wait(1, |status| status.gateway == Some(server_address)).await;
    let status = board.status();
    assert_eq!(status.problems, Vec::<String>::new());
    assert_eq!(status.interface.as_deref(), Some("eth0"));
    assert_eq!(status.time_servers, [IpAddr::V4(server_address)]);
    let text = std::fs::read_to_string(network.resolv_conf()).expect("it is written");
    assert!(text.contains(&format!("search home.arpa\nnameserver {server_address}\n")), "{text}");
    assert_eq!(server.heard()[0].hostname, "rubus", "the server learns our name");
    assert!(run(&network, 1, &format!("ping -c1 -W1 -q {server_address}")), "it is reachable");
    assert!(run(&network, 1, "ip route get 192.0.2.1"), "there is a way out");

    // Renewed in time, and kept beyond its first end.
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(has(&board.status(), first, Origin::Dhcp));
    assert!(server.heard().iter().any(|heard| heard.kind == 3 && heard.has == first));

    // The server has another address for us now, and says so when asked to renew the old one.
    let second = network.segment.address(60);
    server.change(|policy| policy.address = second);
    board.wait(6, |status| has(status, second, Origin::Dhcp)).await;
    assert!(run(&network, 1, "ip route get 192.0.2.1"), "the way out is there again");
}

#[tokio::test]
async fn without_a_server_the_board_chooses_an_address_and_leaves_it_when_one_comes() {
    let network = Network::new([10, 67, 102, 0].into()).await;
    let mut board = network.start(network.settings());
    let took = board
        .wait(14, |status| {
            status.addresses.iter().any(|address| address.origin == Origin::LinkLocal)
        })
        .await;
    assert!(took > Duration::from_secs(4), "servers were given time: {took:?}");
    let IpAddr::V4(chosen) = board.status().addresses[0].address else { panic!("an IPv4 address") };
    assert!(chosen.is_link_local());

    let leased = network.segment.address(70);
    let server_address = network.segment.address(2);
    let _server = DhcpServer::start(&network.namespace(2), "eth0", server_address, policy(leased));
    board.wait(35, |status| has(status, leased, Origin::Dhcp)).await;
}

#[tokio::test]
async fn a_static_address_holds_without_a_server() {
    let network = Network::new([10, 67, 103, 0].into()).await;
    let address = network.segment.address(80);
    let gateway = network.segment.address(2);
    let method = Method::Static { address, prefix: 24, gateway: Some(gateway) };
    let dns = vec!["2001:db8::53".parse().expect("an address")];
    let mut board = network.start(Settings { method, dns, ..network.settings() });
    let took = board.wait(3, |status| has(status, address, Origin::Static)).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(run(&network, 1, &format!("ping -c1 -W1 -q {gateway}")), "the gateway is reachable");
    assert!(run(&network, 1, "ip route get 192.0.2.1"), "there is a way out");
    let text = std::fs::read_to_string(network.resolv_conf()).expect("it is written");
    assert!(text.contains("nameserver 2001:db8::53\n"), "{text}");
}
