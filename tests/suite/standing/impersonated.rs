//! A host of a test's own making, which answers challenges as the test wants it to.

use touchmark_api::{
    attest::Admission,
    frame,
    host::{Push, REATTEST_PATH},
};
use touchmark_helper::Exchange;
use touchmark_rats::{
    PcrSelection, Purpose, cbor, cmw,
    tpm::{self, TpmEvidence},
};
use touchmark_tests::{dev::Dev, sim::device, wire};

/// A host of the test's own making in the place of host 1's agent.
pub(super) struct Impersonated {
    pub(super) device: touchmark_helper::Device,
    pub(super) identity: std::sync::Arc<rustls::sign::CertifiedKey>,
    pub(super) hosts: String,
}

/// What the logs gained since the last attestation.
pub(super) struct Logs {
    pub(super) boot: Vec<u8>,
    pub(super) runtime: Vec<u8>,
}

impl Logs {
    fn enclosed(&self) -> frame::Enclosed<'_> {
        frame::Enclosed {
            log: &self.boot,
            runtime: &self.runtime,
            results: &[],
        }
    }
}

pub(super) fn impersonate(dev: &Dev) -> Impersonated {
    dev.end_agent(1);
    admitted(dev)
}

/// The same, where no agent runs any more.
pub(super) fn admitted(dev: &Dev) -> Impersonated {
    let (address, hosts) = dev.addresses();
    let device = device(&dev.description()["tpms"][0]);
    let visit = wire::introduce(&address, dev.pin(), &device);
    let (parts, key) = wire::evidence(&device, &visit, dev.pin());
    let answer = wire::send(&address, dev.pin(), &parts.message(&visit));
    let admission: Admission = cbor::decode(&answer.body, 1 << 20).unwrap();
    Impersonated {
        identity: wire::identity(&device, &admission, &key),
        device,
        hosts,
    }
}

impl Impersonated {
    /// The challenge that is pushed, answered by a message that `change` has had its way with.
    pub(super) fn reattest(
        &self,
        dev: &Dev,
        change: impl FnOnce(&mut TpmEvidence, &mut Logs),
    ) -> (Vec<u8>, wire::Answer) {
        let challenge = wire::pushed(&self.hosts, dev.pin(), self.identity.clone(), |push| match push {
            Push::Reattest(challenge) => Some(challenge),
            _ => None,
        })
        .unwrap();
        let selection = PcrSelection::from_wire(&challenge.selection).unwrap();
        let exchange = Exchange {
            purpose: Purpose::Reattest,
            trust_domain: wire::DOMAIN,
            anchor: dev.pin(),
            challenge_id: challenge.id.into_array(),
            nonce: challenge.nonce.into_array(),
            cookie: &challenge.cookie,
            selection: &selection,
            log_offsets: &challenge.log_offsets,
        };
        let mut evidence = touchmark_helper::evidence(&self.device, &exchange, &[], &[]).unwrap();
        let runtime = match challenge.log_offsets.get(1) {
            None => Vec::new(),
            Some(from) => self.device.runtime_list(*from, frame::MAX_RUNTIME).unwrap(),
        };
        let mut logs = Logs {
            boot: Vec::new(),
            runtime,
        };
        change(&mut evidence, &mut logs);
        let wrapped = cmw::Record::evidence(tpm::MEDIA_TYPE, cbor::encode(&evidence)).to_cbor();
        let message = frame::finish(
            frame::encode(&challenge.cookie, &[], &wrapped, logs.enclosed()),
            &[],
        );
        let answer = self.post(dev, &message);
        (message, answer)
    }

    pub(super) fn post(&self, dev: &Dev, message: &[u8]) -> wire::Answer {
        let identity = Some(self.identity.clone());
        let media_type = touchmark_api::attest::MESSAGE;
        wire::request(
            &self.hosts,
            dev.pin(),
            identity,
            "POST",
            REATTEST_PATH,
            media_type,
            message,
        )
        .unwrap()
    }
}
