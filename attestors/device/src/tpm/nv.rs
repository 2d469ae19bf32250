//! Reading what a maker stored in NV: endorsement certificates and their chain.

use tss_esapi::{
    constants::{CapabilityType, PropertyTag, response_code::Tss2ResponseCodeKind as Kind},
    handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle},
    interface_types::resource_handles::NvAuth,
    structures::CapabilityData,
};

use super::{Connection, Failure};
use crate::fault::kind;

/// Largest NV index that is read.
const MAX_INDEX: u16 = 8 * 1024;

impl Connection {
    /// The contents of an index; `None` where it is not defined. Read with the index's own empty authorization or, where that is not enough,
    /// as the owner.
    pub(crate) fn nv_read(&mut self, index: u32) -> Result<Option<Vec<u8>>, Failure> {
        let failed = |error| Failure::tss("NV read", error);
        let tpm_handle = NvIndexTpmHandle::new(index).map_err(failed)?;
        let object = match self.context.tr_from_tpm_public(TpmHandle::NvIndex(tpm_handle)) {
            Ok(object) => object,
            Err(error) if matches!(kind(error), Some(Kind::Handle | Kind::ReferenceH0)) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let handle = NvIndexHandle::from(object);
        let result = self.nv_contents(handle);
        let mut object = object;
        self.context.tr_close(&mut object).map_err(failed)?;
        result.map(Some)
    }

    fn nv_contents(&mut self, handle: NvIndexHandle) -> Result<Vec<u8>, Failure> {
        let failed = |error| Failure::tss("NV read", error);
        let (public, _) = self.context.nv_read_public(handle).map_err(failed)?;
        let as_owner = !public.attributes().auth_read() && public.attributes().owner_read();
        let size = u16::try_from(public.data_size())
            .ok()
            .filter(|size| *size <= MAX_INDEX);
        let size = size.ok_or_else(|| Failure::refused("an NV index larger than any certificate"))?;
        let chunk = self.nv_buffer()?;
        let mut contents = Vec::new();
        while contents.len() < usize::from(size) {
            let offset = u16::try_from(contents.len()).map_err(|_| Failure::refused("NV index too large"))?;
            let length = (size - offset).min(chunk);
            let part = if as_owner {
                self.with_hierarchy(self.owner_auth, "NV read", |context| {
                    context.nv_read(NvAuth::Owner, handle, length, offset)
                })?
            } else {
                self.with_passwords(1, |context| {
                    context.nv_read(NvAuth::NvIndex(handle), handle, length, offset)
                })
                .map_err(failed)?
            };
            if part.is_empty() {
                return Err(Failure::refused(
                    "the TPM returned less of an NV index than it holds",
                ));
            }
            contents.extend_from_slice(&part);
        }
        Ok(contents)
    }

    /// How much one NV read returns on this TPM; asked once per connection.
    fn nv_buffer(&mut self) -> Result<u16, Failure> {
        if let Some(size) = self.nv_buffer {
            return Ok(size);
        }
        let failed = |error| Failure::tss("capabilities", error);
        let (data, _) = self
            .context
            .get_capability(CapabilityType::TpmProperties, PropertyTag::NvBufferMax.into(), 1)
            .map_err(failed)?;
        let size = match data {
            CapabilityData::TpmProperties(list) => list.find(PropertyTag::NvBufferMax).map(|p| p.value()),
            _ => None,
        };
        let size = size
            .and_then(|size| u16::try_from(size).ok())
            .unwrap_or(512)
            .clamp(64, 1024);
        self.nv_buffer = Some(size);
        Ok(size)
    }
}
