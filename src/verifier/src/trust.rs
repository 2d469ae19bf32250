//! From what was established of a host to the AR4SI vector (draft-ietf-rats-ar4si, section 2.3): one value per claim, and none where there is
//! not enough evidence.

use touchmark_rats::{ClaimValue, Claims, ear::Tier};

/// Positions in [`touchmark_rats::ear::VECTOR_CLAIMS`].
const INSTANCE_IDENTITY: usize = 0;
const CONFIGURATION: usize = 1;
const EXECUTABLES: usize = 2;
const HARDWARE: usize = 4;

/// How a host stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its last evidence was accepted, and it is still time.
    Attested,
    /// Its last evidence was refused.
    Refused,
    /// There may be two of it, or an operator took it out.
    Distrusted,
    /// Nothing was heard of it, or not in time.
    Unknown,
}

/// The vector, and the status: its worst entry, unless the host stands worse than that.
pub fn trust_vector(claims: &Claims, standing: Standing) -> (Tier, Vec<(usize, i8)>) {
    let mut vector = Vec::new();
    if standing == Standing::Unknown {
        return (Tier::None, vector);
    }
    let text = |name: &str| match claims.get(name) {
        Some(ClaimValue::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let is = |name: &str| matches!(claims.get(name), Some(ClaimValue::Bool(true)));
    let number = |name: &str| match claims.get(name) {
        Some(ClaimValue::Int(number)) => Some(*number),
        _ => None,
    };
    // 2: recognized; 96: recognized, and not to be trusted.
    match standing {
        Standing::Distrusted => vector.push((INSTANCE_IDENTITY, 96)),
        _ if claims.get("device.vouched").is_some() => vector.push((INSTANCE_IDENTITY, 2)),
        _ => {}
    }
    // 2: a configuration that is approved; 32: one with known weaknesses.
    match text("boot.secure_boot") {
        Some("on") => vector.push((CONFIGURATION, 2)),
        Some("off" | "invalid") => vector.push((CONFIGURATION, 32)),
        _ => {}
    }
    // 2: only what is approved was loaded, during and after the boot; 3: during the boot; 33: something that is not recognized.
    if let Some(ClaimValue::Texts(matched)) = claims.get("references.matched") {
        let files = number("ima.entries")
            .filter(|entries| *entries > 0)
            .and_then(|_| number("ima.unknown"));
        vector.push((
            EXECUTABLES,
            match (matched.is_empty(), files) {
                (true, _) => 33,
                (false, None) => 3,
                (false, Some(0)) => 2,
                (false, Some(_)) => 33,
            },
        ));
    }
    // 2: genuine hardware. What a hypervisor vouches for, or is simulated, is none.
    if is("device.vouched") && !is("device.simulated") && text("device.kind") == Some("physical") {
        vector.push((HARDWARE, 2));
    }
    let worst = vector.iter().map(|(_, value)| Tier::of(*value)).max();
    let status = match standing {
        Standing::Attested => worst.unwrap_or(Tier::None),
        _ => Tier::Contraindicated,
    };
    (status, vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Claims {
        let mut claims = Claims::default();
        claims.set("device.vouched", ClaimValue::Bool(true));
        claims.set("device.simulated", ClaimValue::Bool(false));
        claims.set("device.kind", ClaimValue::Text("physical".into()));
        claims.set("boot.secure_boot", ClaimValue::Text("on".into()));
        claims.set("references.matched", ClaimValue::Texts(vec!["release".into()]));
        claims
    }

    #[test]
    fn each_claim_has_the_value_that_the_evidence_allows() {
        assert_eq!(
            trust_vector(&good(), Standing::Attested),
            (Tier::Affirming, vec![(0, 2), (1, 2), (2, 3), (4, 2)])
        );
        let with = |name: &'static str, value: ClaimValue| {
            let mut claims = good();
            claims.set("ima.entries", ClaimValue::Int(20));
            claims.set("ima.unknown", ClaimValue::Int(0));
            claims.set(name, value);
            trust_vector(&claims, Standing::Attested)
        };
        let (status, vector) = with("ima.unknown", ClaimValue::Int(0));
        assert_eq!((status, vector[2]), (Tier::Affirming, (2, 2)));
        let (status, vector) = with("ima.unknown", ClaimValue::Int(1));
        assert_eq!((status, vector[2]), (Tier::Warning, (2, 33)));
        let (status, vector) = with("references.matched", ClaimValue::Texts(Vec::new()));
        assert_eq!((status, vector[2]), (Tier::Warning, (2, 33)));
        let (status, vector) = with("boot.secure_boot", ClaimValue::Text("off".into()));
        assert_eq!((status, vector[1]), (Tier::Warning, (1, 32)));
        for (name, value) in [
            ("device.simulated", ClaimValue::Bool(true)),
            ("device.kind", ClaimValue::Text("hypervisor".into())),
            ("device.vouched", ClaimValue::Bool(false)),
        ] {
            let (_, vector) = with(name, value);
            assert!(vector.iter().all(|(claim, _)| *claim != HARDWARE), "{name}");
        }
    }

    #[test]
    fn a_host_that_is_refused_distrusted_or_unheard_of_is_never_affirmed() {
        assert_eq!(trust_vector(&good(), Standing::Refused).0, Tier::Contraindicated);
        let (status, vector) = trust_vector(&good(), Standing::Distrusted);
        assert_eq!((status, vector[0]), (Tier::Contraindicated, (0, 96)));
        assert_eq!(trust_vector(&good(), Standing::Unknown), (Tier::None, Vec::new()));
        assert_eq!(
            trust_vector(&Claims::default(), Standing::Attested),
            (Tier::None, Vec::new())
        );
    }
}
