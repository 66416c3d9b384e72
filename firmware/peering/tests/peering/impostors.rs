//! Machines in the middle, replays and lies.

use std::{net::SocketAddr, sync::Arc};

use bramble_cluster::{NodeDescription, Peer};
use bramble_peering::{JoinError, JoinRefusal, JoinTokens, Protocol};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    version::TLS13,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::{
    boards::{Board, KEY, Manager, look, soon},
    mirror::{Answer, Ask, Credential, Refusal, frame},
};

/// Believes anybody.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

async fn call(
    address: SocketAddr,
    protocol: Protocol,
) -> anyhow::Result<client::TlsStream<TcpStream>> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.name().as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("anybody.internal")?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

/// A machine that poses as a member, with a certificate that it made itself.
struct Impostor {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Impostor {
    async fn new() -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["anybody.internal".to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())?;
        config.alpn_protocols = vec![Protocol::Join.name().as_bytes().to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    fn poses_as(&self, peer: &Peer) -> anyhow::Result<Peer> {
        Ok(Peer { id: peer.id, addresses: vec![self.listener.local_addr()?] })
    }

    async fn accept(&self) -> anyhow::Result<server::TlsStream<TcpStream>> {
        Ok(self.acceptor.accept(self.listener.accept().await?.0).await?)
    }
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Vec<u8>> {
    let length = usize::try_from(stream.read_u32().await?)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Answer> {
    Ok(postcard::from_bytes(&read_frame(stream).await?)?)
}

fn is_not_proven(joined: &Result<(), JoinError>) -> bool {
    let refused = matches!(joined, Err(JoinError::Refused { refusal: JoinRefusal::NotProven, .. }));
    refused || matches!(joined, Err(JoinError::NotProven { .. }))
}

#[tokio::test]
async fn a_machine_that_passes_everything_on_fails_the_join() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let impostor = Impostor::new().await?;
    let (posed, address) =
        (impostor.poses_as(&manager.peer())?, manager.peering().listen_address());
    let (heard, mut overheard) = mpsc::channel(8);
    let between = tokio::spawn(async move {
        let mut joiner = impostor.accept().await?;
        let mut member = call(address, Protocol::Join).await?;
        let question = read_frame(&mut joiner).await?;
        heard.send(question.clone()).await?;
        member.write_u32(u32::try_from(question.len())?).await?;
        member.write_all(&question).await?;
        member.flush().await?;
        let answer = read_frame(&mut member).await?;
        heard.send(answer.clone()).await?;
        joiner.write_u32(u32::try_from(answer.len())?).await?;
        joiner.write_all(&answer).await?;
        joiner.shutdown().await?;
        anyhow::Ok(())
    });
    let board = Board::new(Some(KEY)).await?;
    let joined = board.peering.join(&posed).await;
    assert!(is_not_proven(&joined), "{joined:?}");
    soon("the machine", between).await??;
    assert!(!board.is_member());
    assert!(manager.asked().is_empty(), "the manager heard of it");

    // What it overheard holds neither the key nor anything that works elsewhere.
    let question = overheard.recv().await.expect("a question");
    let answer = overheard.recv().await.expect("an answer");
    for bytes in [&question, &answer] {
        assert!(!bytes.windows(32).any(|window| window == [1; 32]), "the key was sent");
    }
    let answer = postcard::from_bytes::<Answer>(&answer)?;
    assert!(matches!(answer, Answer::Refused(Refusal::NotProven)), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_proof_that_was_heard_elsewhere_is_refused() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let secrets = look(&manager.ledger, |book| JoinTokens::of(&book.cluster));
    // A board with a cluster key, and one with a token, are tricked into proving to an impostor...
    // (the one with the token is not: it recognises its cluster).
    let impostor = Impostor::new().await?;
    let posed = impostor.poses_as(&manager.peer())?;
    let victim = Board::new(Some(KEY)).await?;
    let addresses = posed.addresses.clone();
    let tricked = tokio::spawn(async move { victim.peering.join(&posed).await });
    let mut caught = impostor.accept().await?;
    let question = postcard::from_bytes::<Ask>(&read_frame(&mut caught).await?)?;
    drop(caught);
    assert!(tricked.await?.is_err());
    let careful = Board::new(None).await?;
    let addresses_of_impostor = addresses.clone();
    let waiting = tokio::spawn(async move { impostor.accept().await });
    let joined = careful.peering.join_with_token(&secrets.worker, &addresses_of_impostor).await;
    assert!(matches!(joined, Err(JoinError::Unreachable(_))), "{joined:?}");
    assert!(waiting.await?.is_err(), "TLS was agreed with an impostor");

    // ...but what it says is worth nothing on the impostor's own connection to the manager.
    let mut connection = call(manager.peering().listen_address(), Protocol::Join).await?;
    connection.write_all(&frame(&question)).await?;
    let answer = soon("the answer", read_answer(&mut connection)).await?;
    assert!(matches!(answer, Answer::Refused(Refusal::NotProven)), "{answer:?}");
    // Nor as a token, nor as a certificate that was never shown.
    let Ask::V1 { credential: Credential::Key(proof), node, description, public_key, possession } =
        question
    else {
        panic!("it proves the key");
    };
    for credential in [Credential::Token(proof), Credential::Certificate] {
        let mut connection = call(manager.peering().listen_address(), Protocol::Join).await?;
        let (description, possession) = (description.clone(), possession.clone());
        let ask = Ask::V1 { credential, node, description, public_key, possession };
        connection.write_all(&frame(&ask)).await?;
        let answer = soon("the answer", read_answer(&mut connection)).await?;
        assert!(matches!(answer, Answer::Refused(Refusal::NotProven)), "{answer:?}");
    }
    assert!(manager.asked().is_empty());
    Ok(())
}

#[tokio::test]
async fn who_lets_in_without_knowing_the_key_is_not_believed() -> anyhow::Result<()> {
    let impostor = Impostor::new().await?;
    let manager = Manager::found(Some(KEY)).await?;
    let cluster = look(&manager.ledger, |book| book.cluster.clone());
    let board = Board::new(Some(KEY)).await?;
    // The impostor even has a certificate of the true cluster to give; and sends the proof back.
    let authority = bramble_peering::authority::Authority::load(&cluster.authority)?;
    let peer = impostor.poses_as(&manager.peer())?;
    let at = manager.peering().clock().now();
    let lying = tokio::spawn(async move {
        for proof_back in [false, true] {
            let mut joiner = impostor.accept().await?;
            let Ask::V1 { credential, node, public_key, .. } =
                postcard::from_bytes(&read_frame(&mut joiner).await?)?;
            let Credential::Key(proof) = credential else { panic!("it proves the key") };
            let subject = bramble_peering::authority::Subject {
                cluster: cluster.id,
                node,
                public_key: bramble_peering::PublicKey(public_key),
            };
            let answer = Answer::Admitted {
                proof: proof_back.then_some(proof),
                cluster: cluster.id,
                founded_at: at,
                certificate: authority.sign(&subject, at, std::time::Duration::from_secs(60))?,
                authority: cluster.authority.certificate.clone(),
                managers: Vec::new(),
                at,
            };
            joiner.write_all(&frame(&answer)).await?;
            joiner.shutdown().await?;
        }
        let mut joiner = impostor.accept().await?;
        read_frame(&mut joiner).await?;
        joiner.write_all(&frame(&Answer::Elsewhere { proof: None, managers: Vec::new() })).await?;
        joiner.shutdown().await?;
        anyhow::Ok(())
    });
    for _ in 0..2 {
        let joined = board.peering.join(&peer).await;
        assert!(joined.is_err(), "{joined:?}");
        assert!(!board.is_member());
    }
    let joined = board.peering.join(&peer).await;
    assert!(matches!(joined, Err(JoinError::NotProven { .. })), "{joined:?}");
    soon("the impostor", lying).await??;
    Ok(())
}

#[tokio::test]
async fn a_stranger_without_certificate_gets_no_conversation() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let _incoming: Vec<_> =
        Protocol::ALL.iter().filter_map(|protocol| manager.peering().incoming(*protocol)).collect();
    for protocol in [Protocol::Raft, Protocol::Session, Protocol::Blob, Protocol::Api] {
        // TLS 1.3 tells a client that it is not wanted after the handshake.
        let refused = match call(manager.peering().listen_address(), protocol).await {
            Ok(mut stream) => {
                let _ = stream.write_all(&frame(&0u8)).await;
                soon("the end", stream.read_to_end(&mut Vec::new())).await.is_err()
            }
            Err(_) => true,
        };
        assert!(refused, "{protocol:?}");
    }
    Ok(())
}

#[tokio::test]
async fn nonsense_in_a_join_is_answered_with_silence_and_harms_nothing() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    for nonsense in [
        vec![0xff; 64],
        vec![0, 0, 0, 4, 9, 9, 9, 9],
        vec![0, 0, 0, 0],
        [vec![0, 1, 0, 1], vec![0; 70_000]].concat(),
        vec![0, 0, 0],
    ] {
        let mut connection = call(manager.peering().listen_address(), Protocol::Join).await?;
        let _ = connection.write_all(&nonsense).await;
        let _ = connection.flush().await;
        let mut answer = Vec::new();
        let _ = soon("the end", connection.read_to_end(&mut answer)).await;
        assert_eq!(answer, [], "{nonsense:?}");
    }
    manager.joined_by(KEY).await?;
    Ok(())
}

#[tokio::test]
async fn the_key_gets_nobody_a_certificate_for_anothers_public_key() -> anyhow::Result<()> {
    let manager = Manager::found(Some(KEY)).await?;
    let member = manager.joined_by(KEY).await?;
    let shown = member.peering.membership().borrow().member().cloned().expect("a member");
    let shown = bramble_peering::NodeCertificate::verify(
        &shown.certificate,
        &shown.authority,
        manager.peering().clock().now(),
        bramble_peering::Expiry::Enforced,
    )?;
    let own_key = Ed25519KeyPair::from_pkcs8(
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("randomness").as_ref(),
    )
    .expect("a key");
    for (public_key, is_own) in [(shown.public_key.0, false), (own_public_key(&own_key), true)] {
        let mut connection = call(manager.peering().listen_address(), Protocol::Join).await?;
        let mut binding = [0; 32];
        let label = b"EXPORTER-bramble-join-1";
        connection.get_ref().1.export_keying_material(&mut binding, label, None)?;
        let statement = [b"bramble join 1 joiner".as_slice(), &binding].concat();
        let proof = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]), &statement);
        let possession = [b"bramble join 1 possession".as_slice(), &binding].concat();
        let ask = Ask::V1 {
            credential: Credential::Key(proof.as_ref().try_into()?),
            // In the name of a member, too: only the manager can know that the key is another.
            node: member.id(),
            description: NodeDescription::default(),
            public_key,
            possession: own_key.sign(&possession).as_ref().to_vec(),
        };
        connection.write_all(&frame(&ask)).await?;
        let answer = soon("the answer", read_answer(&mut connection)).await?;
        let expected = if is_own { Refusal::SameIdentity } else { Refusal::NotProven };
        assert!(matches!(&answer, Answer::Refused(refusal) if *refusal == expected), "{answer:?}");
    }
    Ok(())
}

fn own_public_key(pair: &Ed25519KeyPair) -> [u8; 32] {
    pair.public_key().as_ref().try_into().expect("32 bytes")
}
