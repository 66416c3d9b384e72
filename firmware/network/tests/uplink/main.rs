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

#[tokio::test]
async fn a_server_that_refuses_what_it_does_not_know_is_asked_anew() {
    let network = Network::new([10, 67, 104, 0].into()).await;
    let server_address = network.segment.address(2);
    let first = network.segment.address(50);
    let mut lazy = policy(first);
    lazy.lease_s = 3600;
    lazy.renew_s = 1800;
    let server = DhcpServer::start(&network.namespace(2), "eth0", server_address, lazy);
    let mut board = network.start(network.settings());
    board.wait(5, |status| has(status, first, Origin::Dhcp)).await;

    // The cable is pulled: the board has no address that leads anywhere.
    network.segment.set_cable(1, false).await.expect("a cable is pulled");
    board.wait(3, |status| status.addresses.is_empty()).await;
    // It comes back within the lease: the same address, confirmed.
    network.segment.set_cable(1, true).await.expect("a cable is plugged in");
    let took = board.wait(5, |status| has(status, first, Origin::Dhcp)).await;
    assert!(took < Duration::from_secs(3), "{took:?}");

    // Moved to a network where the old address is refused: a new one, at once.
    let second = network.segment.address(60);
    network.segment.set_cable(1, false).await.expect("a cable is pulled");
    board.wait(3, |status| status.addresses.is_empty()).await;
    server.change(|policy| {
        policy.address = second;
        policy.refuses = true;
    });
    network.segment.set_cable(1, true).await.expect("a cable is plugged in");
    board.wait(8, |status| has(status, second, Origin::Dhcp)).await;
}

/// Where the kernel knows no VLANs, that is told instead.
#[tokio::test]
async fn a_board_can_live_on_a_vlan() {
    let network = Network::new([10, 67, 105, 0].into()).await;
    let is_known = run(&network, 2, "ip link add link eth0 name eth0.10 type vlan id 10");
    if !is_known {
        let mut board = network.start(Settings { vlan: Some(10), ..network.settings() });
        let is_told = |text: &String| text.starts_with("cannot make eth0.10 for VLAN 10");
        board.wait(3, |status| status.problems.iter().any(is_told)).await;
        return;
    }
    assert!(run(&network, 2, "ip link set eth0.10 up"));
    let server_address = Ipv4Addr::new(10, 77, 10, 1);
    assert!(run(&network, 2, "ip address add 10.77.10.1/24 dev eth0.10"));
    let leased = Ipv4Addr::new(10, 77, 10, 50);
    let _server =
        DhcpServer::start(&network.namespace(2), "eth0.10", server_address, policy(leased));
    let mut board = network.start(Settings { vlan: Some(10), ..network.settings() });
    board.wait(5, |status| has(status, leased, Origin::Dhcp)).await;
    assert_eq!(board.status().interface.as_deref(), Some("eth0.10"));
    assert!(run(&network, 1, &format!("ping -c1 -W1 -q {server_address}")));
}

#[tokio::test]
async fn an_address_that_another_machine_has_too_is_a_problem_that_is_told() {
    let network = Network::new([10, 67, 106, 0].into()).await;
    let address = network.segment.address(2);
    let method = Method::Static { address, prefix: 24, gateway: None };
    let mut board = network.start(Settings { method, ..network.settings() });
    board.wait(3, |status| has(status, address, Origin::Static)).await;
    // The other one asks for somebody, and so tells that it has the address.
    run(&network, 2, "ping -c1 -W1 -q 10.67.106.200");
    board
        .wait(5, |status| status.problems.iter().any(|text| text.contains("uses our address")))
        .await;
}

#[tokio::test]
async fn an_interface_that_is_not_there_is_told_and_used_when_it_comes() {
    let network = Network::new([10, 67, 107, 0].into()).await;
    assert!(run(&network, 1, "ip link set eth0 down"));
    assert!(run(&network, 1, "ip link set eth0 name away"));
    let address = network.segment.address(90);
    let method = Method::Static { address, prefix: 24, gateway: None };
    let mut board = network.start(Settings { method, ..network.settings() });
    board.wait(3, |status| status.problems.iter().any(|text| text.contains("\"eth0\""))).await;
    assert!(run(&network, 1, "ip link set away name eth0"));
    board.wait(3, |status| has(status, address, Origin::Static)).await;
    assert_eq!(board.status().problems, Vec::<String>::new());
}
