//! What shim and GRUB measure on their way to the kernel.

use super::Kernel;
use super::device_path;
use super::event::{BOOT_SERVICES_APPLICATION, Event, IPL, VARIABLE_AUTHORITY};
use super::firmware::DB_CERTIFICATE;
use super::variables::{SECURITY_DATABASE, SHIM_LOCK, length, measured, signature};

pub(super) const SHIM: &str = r"\EFI\debian\shimx64.efi";
const GRUB: &str = r"\EFI\debian\grubx64.efi";
const SHIM_VENDOR_CERTIFICATE: &[u8] = include_bytes!("certificates/shim-vendor.der");
const SBAT_LEVEL: &[u8] = b"sbat,1,2023012900\nshim,2\ngrub,3\ngrub.debian,4\n";
const ROOT_UUID: &str = "5b1f7c0e-2d8a-4f6e-9c3b-7a4e10d2c865";

/// Registers as shim and GRUB use them.
const IMAGES: u32 = 4;
const AUTHORITIES: u32 = 7;
const COMMANDS: u32 = 8;
const FILES: u32 = 9;
const MACHINE_OWNER_KEYS: u32 = 14;

/// From the firmware's verifying shim to GRUB's jump into the kernel. Without Secure Boot nothing is verified, so
/// no authority is measured.
pub(super) fn shim_and_grub(secure_boot: bool, kernel: Kernel) -> Vec<Event> {
    let mut events = Vec::new();
    let authority = |vendor, name, content: &[u8]| {
        secure_boot.then(|| measured(AUTHORITIES, VARIABLE_AUTHORITY, vendor, name, content))
    };
    events.extend(authority(SECURITY_DATABASE, "db", &signature(DB_CERTIFICATE)));
    events.push(image(&device_path::esp_file(SHIM), &stand_in(SHIM)));
    for name in ["MokList", "MokListX", "MokListTrusted"] {
        let content = stand_in(name);
        events.push(Event::of(MACHINE_OWNER_KEYS, IPL, &content, with_nul(name)));
    }
    events.extend(authority(SHIM_LOCK, "SbatLevel", SBAT_LEVEL));
    events.extend(authority(SHIM_LOCK, "Shim", SHIM_VENDOR_CERTIFICATE));
    events.push(image(&device_path::esp_file(GRUB), &stand_in(GRUB)));

    let version = kernel.version();
    let vmlinuz = format!("/boot/vmlinuz-{version}");
    let initrd = format!("/boot/initrd.img-{version}");
    let cmdline = format!("{vmlinuz} root=UUID={ROOT_UUID} ro quiet");
    let command = |text: &str| grub_text("grub_cmd: ", text);
    events.push(command("set root=hd0,gpt2"));
    events.push(command(&format!(
        "search --no-floppy --fs-uuid --set=root {ROOT_UUID}"
    )));
    events.push(command("insmod gzio"));
    events.push(command(&format!("linux {cmdline}")));
    events.push(file(&vmlinuz));
    events.push(image(
        &device_path::loader_file(&vmlinuz),
        &stand_in(&format!("image {vmlinuz}")),
    ));
    events.push(grub_text("kernel_cmdline: ", &cmdline));
    events.push(command(&format!("initrd {initrd}")));
    events.push(file(&initrd));
    events
}

/// UEFI_IMAGE_LOAD_EVENT: where the image lies, and where it came from.
fn image(path: &[u8], content: &[u8]) -> Event {
    let (address, size, link_address) = (0x7d00_0000_u64, 0x000e_0000_u64, 0_u64);
    let mut data = Vec::new();
    for field in [address, size, link_address] {
        data.extend_from_slice(&field.to_le_bytes());
    }
    data.extend_from_slice(&length(path.len()));
    data.extend_from_slice(path);
    Event::of(IMAGES, BOOT_SERVICES_APPLICATION, content, data)
}

/// GRUB measures a command without its prefix, and logs it with the prefix and a NUL.
fn grub_text(prefix: &str, text: &str) -> Event {
    Event::of(
        COMMANDS,
        IPL,
        text.as_bytes(),
        with_nul(&format!("{prefix}{text}")),
    )
}

/// GRUB measures a file's content, and logs its name.
fn file(path: &str) -> Event {
    Event::of(FILES, IPL, &stand_in(path), with_nul(path))
}

/// The bytes that stand for a file, an image or a list: always the same for a name.
fn stand_in(name: &str) -> Vec<u8> {
    format!("touchmark-sim stand-in: {name}").into_bytes()
}

fn with_nul(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}
