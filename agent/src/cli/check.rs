pub fn check(_: &crate::config::Origin, _: bool) -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
