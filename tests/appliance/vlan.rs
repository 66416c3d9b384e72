//! Boards that live on a VLAN: their frames are tagged, and they hear no others.

use crate::{
    machine::{API_READY, BOOT, Machine},
    one_board::FOUNDING,
    segment::Segment,
    three_boards::JOINED,
};

const VLAN: u16 = 5;

#[test]
fn boards_on_a_vlan_find_each_other_and_not_the_board_beside_it() {
    let segment = Segment::new();
    let mut boards: Vec<Machine> = (1..=3).map(|number| Machine::new(&segment, number)).collect();
    let (beside, tagged) = boards.split_last_mut().expect("there are three");
    for (number, board) in tagged.iter_mut().enumerate() {
        board.card().configure(&format!(
            "[cluster]\nkey = \"{}\"\n[network]\nmethod = \"static\"\naddress = \"10.78.0.1{number}/24\"\nvlan = {VLAN}\n",
            segment.key()
        ));
        board.start();
    }
    let beside = beside.start();
    for board in &*tagged {
        board.console().wait_for(API_READY, BOOT * 3);
    }
    beside.wait_for(FOUNDING, BOOT * 3);
    let founders = || tagged.iter().filter(|board| board.console().says(FOUNDING)).count();
    let story = || tagged.iter().map(|board| board.console().tail()).collect();
    crate::command::wait_for("one board of the VLAN joins the other", BOOT, story, || {
        tagged.iter().any(|board| board.console().says(JOINED)) && founders() == 1
    });
    assert!(!beside.says(JOINED), "{}", beside.tail());
}
