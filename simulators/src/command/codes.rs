//! Names of TPM command codes: TPM 2.0 Library Specification part 2, section "TPM_CC".

/// TPM_CC_FIRST and the names from there on; an empty name is a code that is not assigned.
const FIRST: u32 = 0x11f;
#[rustfmt::skip]
const NAMES: [&str; 124] = [
    /* 11f */ "TPM2_NV_UndefineSpaceSpecial", "TPM2_EvictControl", "TPM2_HierarchyControl", "TPM2_NV_UndefineSpace",
    /* 123 */ "", "TPM2_ChangeEPS", "TPM2_ChangePPS", "TPM2_Clear",
    /* 127 */ "TPM2_ClearControl", "TPM2_ClockSet", "TPM2_HierarchyChangeAuth", "TPM2_NV_DefineSpace",
    /* 12b */ "TPM2_PCR_Allocate", "TPM2_PCR_SetAuthPolicy", "TPM2_PP_Commands", "TPM2_SetPrimaryPolicy",
    /* 12f */ "TPM2_FieldUpgradeStart", "TPM2_ClockRateAdjust", "TPM2_CreatePrimary", "TPM2_NV_GlobalWriteLock",
    /* 133 */ "TPM2_GetCommandAuditDigest", "TPM2_NV_Increment", "TPM2_NV_SetBits", "TPM2_NV_Extend",
    /* 137 */ "TPM2_NV_Write", "TPM2_NV_WriteLock", "TPM2_DictionaryAttackLockReset", "TPM2_DictionaryAttackParameters",
    /* 13b */ "TPM2_NV_ChangeAuth", "TPM2_PCR_Event", "TPM2_PCR_Reset", "TPM2_SequenceComplete",
    /* 13f */ "TPM2_SetAlgorithmSet", "TPM2_SetCommandCodeAuditStatus", "TPM2_FieldUpgradeData", "TPM2_IncrementalSelfTest",
    /* 143 */ "TPM2_SelfTest", "TPM2_Startup", "TPM2_Shutdown", "TPM2_StirRandom",
    /* 147 */ "TPM2_ActivateCredential", "TPM2_Certify", "TPM2_PolicyNV", "TPM2_CertifyCreation",
    /* 14b */ "TPM2_Duplicate", "TPM2_GetTime", "TPM2_GetSessionAuditDigest", "TPM2_NV_Read",
    /* 14f */ "TPM2_NV_ReadLock", "TPM2_ObjectChangeAuth", "TPM2_PolicySecret", "TPM2_Rewrap",
    /* 153 */ "TPM2_Create", "TPM2_ECDH_ZGen", "TPM2_HMAC", "TPM2_Import",
    /* 157 */ "TPM2_Load", "TPM2_Quote", "TPM2_RSA_Decrypt", "",
    /* 15b */ "TPM2_HMAC_Start", "TPM2_SequenceUpdate", "TPM2_Sign", "TPM2_Unseal",
    /* 15f */ "", "TPM2_PolicySigned", "TPM2_ContextLoad", "TPM2_ContextSave",
    /* 163 */ "TPM2_ECDH_KeyGen", "TPM2_EncryptDecrypt", "TPM2_FlushContext", "",
    /* 167 */ "TPM2_LoadExternal", "TPM2_MakeCredential", "TPM2_NV_ReadPublic", "TPM2_PolicyAuthorize",
    /* 16b */ "TPM2_PolicyAuthValue", "TPM2_PolicyCommandCode", "TPM2_PolicyCounterTimer", "TPM2_PolicyCpHash",
    /* 16f */ "TPM2_PolicyLocality", "TPM2_PolicyNameHash", "TPM2_PolicyOR", "TPM2_PolicyTicket",
    /* 173 */ "TPM2_ReadPublic", "TPM2_RSA_Encrypt", "", "TPM2_StartAuthSession",
    /* 177 */ "TPM2_VerifySignature", "TPM2_ECC_Parameters", "TPM2_FirmwareRead", "TPM2_GetCapability",
    /* 17b */ "TPM2_GetRandom", "TPM2_GetTestResult", "TPM2_Hash", "TPM2_PCR_Read",
    /* 17f */ "TPM2_PolicyPCR", "TPM2_PolicyRestart", "TPM2_ReadClock", "TPM2_PCR_Extend",
    /* 183 */ "TPM2_PCR_SetAuthValue", "TPM2_NV_Certify", "TPM2_EventSequenceComplete", "TPM2_HashSequenceStart",
    /* 187 */ "TPM2_PolicyPhysicalPresence", "TPM2_PolicyDuplicationSelect", "TPM2_PolicyGetDigest", "TPM2_TestParms",
    /* 18b */ "TPM2_Commit", "TPM2_PolicyPassword", "TPM2_ZGen_2Phase", "TPM2_EC_Ephemeral",
    /* 18f */ "TPM2_PolicyNvWritten", "TPM2_PolicyTemplate", "TPM2_CreateLoaded", "TPM2_PolicyAuthorizeNV",
    /* 193 */ "TPM2_EncryptDecrypt2", "TPM2_AC_GetCapability", "TPM2_AC_Send", "TPM2_Policy_AC_SendSelect",
    /* 197 */ "TPM2_CertifyX509", "TPM2_ACT_SetTimeout", "TPM2_ECC_Encrypt", "TPM2_ECC_Decrypt",
];

/// The specification's name for a command code.
#[must_use]
pub fn name_of(code: u32) -> Option<&'static str> {
    let index = usize::try_from(code.checked_sub(FIRST)?).ok()?;
    NAMES.get(index).copied().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_names_and_others_have_none() {
        for (code, name) in [
            (0x11f, "TPM2_NV_UndefineSpaceSpecial"),
            (0x144, "TPM2_Startup"),
            (0x158, "TPM2_Quote"),
            (0x182, "TPM2_PCR_Extend"),
            (0x19a, "TPM2_ECC_Decrypt"),
        ] {
            assert_eq!(name_of(code), Some(name));
        }
        for code in [0, 0x11e, 0x123, 0x15a, 0x19b, 0x2000_0000] {
            assert_eq!(name_of(code), None);
        }
    }
}
