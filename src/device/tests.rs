//! Names of devices.

use super::*;

#[test]
fn reads_what_it_writes() {
    for text in [
        "auto",
        "gpu:0",
        "gpu:3",
        "emulator:75",
        "emulator:80",
        "emulator:90",
    ] {
        let choice: DeviceChoice = text.parse().unwrap();
        assert_eq!(choice.to_string(), text);
    }
    assert_eq!(
        "gpu".parse::<DeviceChoice>().unwrap(),
        DeviceChoice::Cuda(0)
    );
    assert_eq!(
        "emulator".parse::<DeviceChoice>().unwrap(),
        DeviceChoice::Emulator { sm: 90 }
    );
}

#[test]
fn refuses_the_rest() {
    for text in [
        "",
        "cpu",
        "gpu:",
        "gpu:-1",
        "gpu:x",
        "emulator:",
        "emulator:86",
        "auto:1",
        "gpu:0:1",
    ] {
        let error = text.parse::<DeviceChoice>().unwrap_err();
        assert!(
            matches!(&error, Error::BadDevice { text: named } if named == text),
            "{error}"
        );
    }
}
