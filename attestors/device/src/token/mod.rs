//! One PKCS#11 token, used by as many threads as it has sessions for.
//!
//! The module is loaded at the first use. A session is opened at the first use and again after the token was away; a request that met a
//! session that is none any more is tried once more on a new one. Whoever is logged in is so for all sessions of a process.

mod certificates;
mod fault;
mod keys;
mod login;
mod signing;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Info, Pkcs11},
    error::{Error, RvError},
    mechanism::MechanismType,
    session::Session,
    slot::{Limit, Slot, SlotInfo, TokenInfo},
};
use serde_bytes::ByteBuf;
use touchmark_api::device::{Fault, FaultKind, Op, Reply, TokenSettings};
use touchmark_custody::pkcs11_uri::{Pkcs11Uri, TokenFacts};
use touchmark_rats::token::{TokenDescription, TokenMechanism};

use self::{fault::Failure, keys::Found, login::Login};
use crate::fault::{Outcome, fault};

/// Most keys whose handles a session remembers.
const MAX_REMEMBERED: usize = 1024;
/// Mechanisms that are told of.
const TOLD: [MechanismType; 4] = [
    MechanismType::ECC_KEY_PAIR_GEN,
    MechanismType::ECDSA,
    MechanismType::RSA_PKCS_KEY_PAIR_GEN,
    MechanismType::RSA_PKCS_PSS,
];

/// A token, as one thread uses it.
pub(crate) struct Token {
    shared: Arc<Shared>,
    open: Option<Open>,
}

/// What the threads have in common.
struct Shared {
    settings: TokenSettings,
    uri: Pkcs11Uri,
    module: Mutex<Option<Pkcs11>>,
    login: Mutex<Login>,
    /// Sessions that are open. While there is none the module can begin anew.
    sessions: AtomicUsize,
}

/// A session, and what is known through it.
struct Open {
    session: Session,
    _counted: Counted,
    slot: Slot,
    context: Pkcs11,
    facts: TokenFacts,
    keys: HashMap<String, Found>,
}

/// A session among those that are open.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.sessions.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Token {
    /// Reads the settings; the module is not loaded yet.
    pub(crate) fn new(settings: TokenSettings) -> Outcome<Self> {
        let uri = Pkcs11Uri::parse(&settings.token).map_err(|error| {
            fault(
                FaultKind::Refused,
                format!("hsm.token: {error}; an example: pkcs11:token=fleet;serial=0123"),
            )
        })?;
        if uri.names_object() {
            return Err(fault(
                FaultKind::Refused,
                "hsm.token: it names a token, and no object in it: leave object and id out",
            ));
        }
        Ok(Self {
            shared: Arc::new(Shared {
                settings,
                uri,
                module: Mutex::default(),
                login: Mutex::default(),
                sessions: AtomicUsize::new(0),
            }),
            open: None,
        })
    }

    /// The same token for another thread.
    pub(crate) fn another(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            open: None,
        }
    }

    /// How many threads may use it: as many as configured, if the token has so many sessions. `None` before it was reached.
    pub(crate) fn threads(&self) -> Option<u64> {
        let open = self.open.as_ref()?;
        let wanted = u64::from(self.shared.settings.sessions.max(1));
        let limit = open
            .context
            .get_token_info(open.slot)
            .ok()?
            .max_rw_session_count();
        Some(match limit {
            Limit::Max(most) => wanted.min(most.max(1)),
            _ => wanted,
        })
    }

    /// Carries out one request.
    pub(crate) fn answer(&mut self, op: Op) -> Outcome<Reply> {
        match op {
            Op::DescribeToken => self.with(Open::describe).map(Reply::Token),
            Op::CreateTokenKey { kind, label } => self
                .with(|open| open.create_key(kind, &label))
                .map(Reply::TokenKey),
            Op::DescribeTokenKey(uri) => {
                let uri = key_uri(&uri)?;
                self.with(|open| open.describe_key(&uri)).map(Reply::TokenKey)
            }
            Op::DestroyTokenKey(uri) => {
                let uri = key_uri(&uri)?;
                self.with(|open| open.destroy_key(&uri)).map(|()| Reply::Done)
            }
            Op::StoreCertificate { key, certificate } => {
                let uri = key_uri(&key)?;
                self.with(|open| open.store_certificate(&uri, &certificate))
                    .map(|()| Reply::Done)
            }
            Op::Sign { key, message } => {
                let uri = std::str::from_utf8(&key).unwrap_or_default();
                let uri = key_uri(uri)?;
                let shared = Arc::clone(&self.shared);
                self.with(|open| open.sign(&uri, &message, &shared))
                    .map(|signature| Reply::Signature(ByteBuf::from(signature)))
            }
            _ => Err(fault(
                FaultKind::Refused,
                "a token does no such thing: a TPM does",
            )),
        }
    }

    /// Runs an operation in the session, and once more in a new one if this one turned out to be none any more.
    fn with<T>(&mut self, operation: impl Fn(&mut Open) -> Result<T, Failure>) -> Outcome<T> {
        let fresh = self.open.is_none();
        match self.attempt(&operation) {
            Err(failure) if !fresh && failure.is_session() => {
                self.open = None;
                self.attempt(&operation).map_err(Failure::into_fault)
            }
            other => other.map_err(Failure::into_fault),
        }
        .inspect_err(|fault| {
            if fault.kind == FaultKind::Unavailable {
                self.open = None;
            }
        })
    }

    fn attempt<T>(&mut self, operation: impl Fn(&mut Open) -> Result<T, Failure>) -> Result<T, Failure> {
        if self.open.is_none() {
            self.open = Some(self.shared.open()?);
        }
        match &mut self.open {
            Some(open) => operation(open),
            None => Err(Failure::fault(FaultKind::Unavailable, "not connected")),
        }
    }
}

fn key_uri(text: &str) -> Result<Pkcs11Uri, Fault> {
    let uri = Pkcs11Uri::parse(text).map_err(|error| fault(FaultKind::Refused, error.to_string()))?;
    if uri.names_object() {
        Ok(uri)
    } else {
        Err(fault(
            FaultKind::Refused,
            "the URI names no key: give object, id or both",
        ))
    }
}

impl Shared {
    /// A session of the one token that the settings name, logged in where the token asks for it.
    fn open(self: &Arc<Self>) -> Result<Open, Failure> {
        // Counted before it is there: whoever lets the module begin anew has to see it.
        let counted = Counted::new(self);
        let mut context = self.context()?;
        let mut found = self.token(&context);
        if matches!(&found, Err(failure) if failure.is_absence())
            && let Some(anew) = self.begin_anew()
        {
            context = anew?;
            found = self.token(&context);
        }
        let (slot, info, facts) = found?;
        let session = if info.write_protected() {
            context.open_ro_session(slot)
        } else {
            context.open_rw_session(slot)
        };
        let session = session.map_err(|error| Failure::module("session", error))?;
        if info.login_required() {
            lock(&self.login).user(&session, &info, &self.settings)?;
        }
        Ok(Open {
            session,
            _counted: counted,
            slot,
            context,
            facts,
            keys: HashMap::new(),
        })
    }

    /// The module, loaded once.
    fn context(&self) -> Result<Pkcs11, Failure> {
        let mut module = lock(&self.module);
        if let Some(context) = module.as_ref() {
            return Ok(context.clone());
        }
        let loaded = self.load()?;
        *module = Some(loaded.clone());
        Ok(loaded)
    }

    /// Lets the module look for tokens anew: many see those alone that were there when they began. `None` while sessions are open in it.
    fn begin_anew(&self) -> Option<Result<Pkcs11, Failure>> {
        let mut module = lock(&self.module);
        if self.sessions.load(Ordering::Acquire) > 1 {
            return None;
        }
        if let Some(old) = module.take() {
            // What does not end cannot begin anew either, and says so.
            let _ = old.finalize();
        }
        Some(self.load().inspect(|loaded| *module = Some(loaded.clone())))
    }

    fn load(&self) -> Result<Pkcs11, Failure> {
        let path = &self.settings.module;
        let loaded = Pkcs11::new(path).map_err(|error| {
            Failure::fault(
                FaultKind::Refused,
                format!("hsm.module: {path} cannot be loaded as a PKCS#11 module ({error})"),
            )
        })?;
        match loaded.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(Failure::module("C_Initialize", error)),
        }
        Ok(loaded)
    }

    /// The one token that the URI names.
    fn token(&self, context: &Pkcs11) -> Result<(Slot, TokenInfo, TokenFacts), Failure> {
        let library = context
            .get_library_info()
            .map_err(|error| Failure::module("C_GetInfo", error))?;
        let slots = context
            .get_slots_with_token()
            .map_err(|error| Failure::module("C_GetSlotList", error))?;
        let mut found = Vec::new();
        for slot in slots {
            // One that was taken out meanwhile is none of those that are looked for.
            let (Ok(about), Ok(info)) = (context.get_slot_info(slot), context.get_token_info(slot)) else {
                continue;
            };
            let facts = facts(slot, &about, &info, &library);
            if info.token_initialized() && self.uri.names_token(&facts) {
                found.push((slot, info, facts));
            }
        }
        let wanted = &self.settings.token;
        match found.len() {
            1 => found
                .pop()
                .ok_or_else(|| Failure::fault(FaultKind::Unavailable, "no token")),
            0 => Err(Failure::Absent(format!(
                "no token that {wanted} names is there: put it in, or see what there is with pkcs11-tool --module {} -L",
                self.settings.module
            ))),
            many => Err(Failure::fault(
                FaultKind::Refused,
                format!("{many} tokens are what {wanted} names: name one by its serial number as well"),
            )),
        }
    }
}

fn facts(slot: Slot, about: &SlotInfo, info: &TokenInfo, library: &Info) -> TokenFacts {
    let version = library.library_version();
    TokenFacts {
        label: info.label().to_owned(),
        manufacturer: info.manufacturer_id().to_owned(),
        model: info.model().to_owned(),
        serial: info.serial_number().to_owned(),
        slot_id: slot.id(),
        slot_description: about.slot_description().to_owned(),
        slot_manufacturer: about.manufacturer_id().to_owned(),
        library_manufacturer: library.manufacturer_id().to_owned(),
        library_description: library.library_description().to_owned(),
        library_version: (version.major(), version.minor()),
    }
}

impl Open {
    fn describe(&mut self) -> Result<TokenDescription, Failure> {
        let about = self
            .context
            .get_slot_info(self.slot)
            .map_err(|error| Failure::module("C_GetSlotInfo", error))?;
        let info = self
            .context
            .get_token_info(self.slot)
            .map_err(|error| Failure::module("C_GetTokenInfo", error))?;
        let number = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
        let mechanisms = TOLD
            .into_iter()
            .filter_map(|mechanism| {
                let info = self.context.get_mechanism_info(self.slot, mechanism).ok()?;
                Some(TokenMechanism {
                    number: *mechanism,
                    min_key: number(info.min_key_size()),
                    max_key: number(info.max_key_size()),
                    hardware: info.hardware(),
                })
            })
            .collect();
        let (hardware, firmware) = (info.hardware_version(), info.firmware_version());
        let plain = |text: &str| text.trim_end_matches([' ', '\0']).to_owned();
        Ok(TokenDescription {
            label: plain(info.label()),
            manufacturer: plain(info.manufacturer_id()),
            model: plain(info.model()),
            serial: plain(info.serial_number()),
            hardware: (hardware.major(), hardware.minor()),
            firmware: (firmware.major(), firmware.minor()),
            slot_id: self.slot.id(),
            slot_description: plain(about.slot_description()),
            slot_manufacturer: plain(about.manufacturer_id()),
            hardware_slot: about.hardware_slot(),
            library_manufacturer: plain(&self.facts.library_manufacturer),
            library_description: plain(&self.facts.library_description),
            library: self.facts.library_version,
            mechanisms,
        })
    }
}

/// A lock whose data stays valid when a holder panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
