use crate::{
    Applied, ClusterState, Command, Digest, Image, ImageReference, Outcome, Rejection, limits,
    sample::{apply_one, founded, image, node_id},
};

fn report(state: &mut ClusterState, node: u128, images: Vec<Image>) -> Outcome {
    apply_one(state, 2_000, Command::ReportImages { node: node_id(node), images })
}

fn holders(state: &ClusterState, byte: u8) -> Vec<u128> {
    let image = state.images().get(&Digest::from_bytes([byte; 32]));
    image.into_iter().flat_map(|image| &image.holders).map(|node| node.bits()).collect()
}

#[test]
fn a_report_replaces_what_the_node_said_before() {
    let mut state = founded();
    assert_eq!(report(&mut state, 1, vec![image(1, "a", 1), image(2, "b", 1)]), Ok(Applied::Done));
    assert_eq!(report(&mut state, 2, vec![image(1, "a", 1)]), Ok(Applied::Done));
    assert_eq!(holders(&state, 1), [1, 2]);
    assert_eq!(report(&mut state, 1, vec![image(2, "b", 1)]), Ok(Applied::Done));
    assert_eq!((holders(&state, 1), holders(&state, 2)), (vec![2], vec![1]));
    assert_eq!(report(&mut state, 1, vec![image(2, "b", 1)]), Ok(Applied::Unchanged));
    report(&mut state, 2, vec![]).unwrap();
    assert_eq!(state.images().len(), 1, "what nobody holds is forgotten");
}

#[test]
fn a_name_means_the_image_that_was_named_last() {
    let mut state = founded();
    report(&mut state, 1, vec![image(1, "web", 100)]).unwrap();
    report(&mut state, 2, vec![image(2, "web", 200)]).unwrap();
    let meant = |state: &ClusterState| state.image_by_name("web").unwrap().digest.as_bytes()[0];
    assert_eq!(meant(&state), 2);
    report(&mut state, 2, vec![image(1, "web", 0), image(2, "web", 200)]).unwrap();
    assert_eq!(meant(&state), 2, "fetching an older image does not name it anew");
    report(&mut state, 1, vec![image(1, "web", 300)]).unwrap();
    assert_eq!(meant(&state), 1, "loading it again does");
}

#[test]
fn a_name_is_found_however_it_is_written_and_a_digest_decides() {
    let mut state = founded();
    report(&mut state, 1, vec![image(1, "web", 100), image(2, "web", 200)]).unwrap();
    for name in ["web", "web:latest", "library/web", "docker.io/library/web:latest"] {
        assert!(state.image_by_name(name).is_some(), "{name}");
    }
    assert!(state.image_by_name("web:2").is_none());
    assert!(state.image_by_name("not a name").is_none());
    let digest = Digest::from_bytes([1; 32]);
    let name = format!("web@{digest}");
    assert_eq!(state.image_by_name(&name).unwrap().digest, digest);
    let reference = ImageReference { name: "web".to_owned(), digest: Some(digest) };
    assert_eq!(state.image(&reference).unwrap().digest, digest);
}

#[test]
fn a_sole_holder_may_take_a_name_away() {
    let mut state = founded();
    report(&mut state, 1, vec![image(1, "a", 1)]).unwrap();
    report(&mut state, 1, vec![image(1, "b", 2)]).unwrap();
    assert!(state.image_by_name("a").is_none() && state.image_by_name("b").is_some());
}

#[test]
fn there_are_only_so_many_images_and_names() {
    let mut state = founded();
    let numbered = |number: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Image { digest: Digest::from_bytes(bytes), ..image(0, "x", 0) }
    };
    let all: Vec<_> = (0..limits::IMAGES).map(numbered).collect();
    assert_eq!(report(&mut state, 1, all), Ok(Applied::Done));
    let one_more = vec![numbered(limits::IMAGES)];
    assert!(matches!(report(&mut state, 2, one_more), Err(Rejection::OverLimit { .. })));
    let mut named = image(1, "a", 0);
    named.names = (0..=limits::IMAGE_NAMES).map(|number| format!("docker.io/x/{number}")).collect();
    let mut state = founded();
    assert!(matches!(report(&mut state, 1, vec![named]), Err(Rejection::OverLimit { .. })));
}
