//! The document as it is written: the wire structs of the manifest, MarbleRun's fields and ours. They say
//! which fields exist and of which type; what they mean is decided where they are resolved.

use std::collections::BTreeMap;

use crate::wire::{GoBytes, NumberOrText, OneOrMore, ParameterEntry, wire};

type Map<T> = BTreeMap<String, T>;

wire! {
    struct Document {
        packages: Map<Package> = "Packages",
        infrastructures: Map<Infrastructure> = "Infrastructures",
        platforms: Option<Platforms> = "Platforms",
        marbles: Map<Marble> = "Marbles",
        users: Map<User> = "Users",
        roles: Map<Role> = "Roles",
        secrets: Map<Secret> = "Secrets",
        recovery_keys: Map<String> = "RecoveryKeys",
        tls: Map<TlsTag> = "TLS",
        config: Config = "Config",
        transparency: Transparency = "Transparency",
        secret_stores: Map<SecretStore> = "SecretStores",
        broker: Option<Broker> = "Broker",
        workload_signers: Map<ReferenceSigner> = "WorkloadSigners",
        registries: Map<Registry> = "Registries",
    }

    struct Transparency {
        witnesses: Vec<String> = "Witnesses",
        quorum: Option<u64> = "Quorum",
    }

    struct Package {
        unique_id: String = "UniqueID",
        signer_id: String = "SignerID",
        product_id: Option<u64> = "ProductID",
        security_version: Option<u64> = "SecurityVersion",
        measurements: Measurements = "Measurements",
        debug: bool = "Debug",
        accepted_tcb_statuses: Vec<String> = "AcceptedTCBStatuses",
        accepted_advisories: Vec<String> = "AcceptedAdvisories",
        references: Option<References> = "References",
        reference_values: Vec<ReferenceTuple> = "ReferenceValues",
    }

    struct Measurements {
        sgx: OneOrMore = "Sgx",
        tdx: OneOrMore = "Tdx",
        snp: OneOrMore = "Snp",
    }

    struct Infrastructure {
        cpu_svn: GoBytes = "CPUSVN",
        qe_svn: u64 = "QESVN",
        pce_svn: u64 = "PCESVN",
        root_ca: GoBytes = "RootCA",
    }

    struct Platforms {
        sgx: Option<Platform> = "Sgx",
        tdx: Option<Platform> = "Tdx",
        snp: Option<Platform> = "Snp",
        azure_snp: Option<Platform> = "AzureSnp",
        azure_tdx: Option<Platform> = "AzureTdx",
        tpm: Option<Platform> = "Tpm",
        cca: Option<Platform> = "Cca",
    }

    struct Platform {
        accepted_tcb_statuses: Vec<String> = "AcceptedTCBStatuses",
        accepted_advisories: Vec<String> = "AcceptedAdvisories",
        minimum_tcb: Option<MinimumTcb> = "MinimumTcb",
        minimum_tcb_evaluation_number: Option<u64> = "MinimumTcbEvaluationNumber",
        denied_families: Vec<String> = "DeniedFamilies",
        emulated_roots: Vec<String> = "EmulatedRoots",
        trust_anchors: Vec<String> = "TrustAnchors",
        registers: Option<Vec<u64>> = "Registers",
        paravisors: Vec<String> = "Paravisors",
    }

    struct MinimumTcb {
        bootloader: Option<u64> = "Bootloader",
        tee: Option<u64> = "Tee",
        snp: Option<u64> = "Snp",
        microcode: Option<u64> = "Microcode",
        fmc: Option<u64> = "Fmc",
    }

    struct Marble {
        package: String = "Package",
        max_activations: u64 = "MaxActivations",
        parameters: Parameters = "Parameters",
        tls: Vec<String> = "TLS",
        disable_secret_binding: bool = "DisableSecretBinding",
        workload: Option<Workload> = "Workload",
        limits: Option<Limits> = "Limits",
        names: Vec<String> = "Names",
        access: Option<String> = "Access",
        peers: Option<Vec<String>> = "Peers",
        log: Option<String> = "Log",
        database: Option<Box<Database>> = "Database",
    }

    struct Database {
        manifest: String = "Manifest",
    }

    struct Parameters {
        files: Map<ParameterEntry> = "Files",
        env: Map<ParameterEntry> = "Env",
        argv: Vec<String> = "Argv",
    }

    struct Workload {
        digest: Option<String> = "Digest",
        config: Option<String> = "Config",
        package: Option<String> = "Package",
        repository: Option<String> = "Repository",
        name: Option<String> = "Name",
        signers: Vec<String> = "Signers",
        minimum_version: Option<String> = "MinimumVersion",
        older_versions: bool = "OlderVersions",
        keys: Vec<String> = "Keys",
    }

    struct Registry {
        username: Option<String> = "Username",
        password: Option<String> = "Password",
        root_ca: OneOrMore = "RootCA",
        plain: bool = "Plain",
    }

    struct Limits {
        memory: Option<String> = "Memory",
        cpu_per_request: Option<String> = "CpuPerRequest",
        concurrent_requests: Option<u64> = "ConcurrentRequests",
        body_size: Option<String> = "BodySize",
    }

    struct User {
        certificate: String = "Certificate",
        roles: Vec<String> = "Roles",
        oidc: Option<Oidc> = "Oidc",
    }

    struct Oidc {
        issuer: String = "Issuer",
        audience: String = "Audience",
        subject: Option<String> = "Subject",
        claim: Option<Claim> = "Claim",
        jwks: Jwks = "Jwks",
    }

    struct Claim {
        name: String = "Name",
        value: String = "Value",
    }

    struct Jwks {
        keys: Vec<Jwk> = "keys",
    }

    /// RFC 7517 §4, as far as public signing keys need it.
    struct Jwk {
        kty: String = "kty",
        kid: String = "kid",
        alg: Option<String> = "alg",
        usage: Option<String> = "use",
        crv: Option<String> = "crv",
        x: Option<String> = "x",
        y: Option<String> = "y",
        n: Option<String> = "n",
        e: Option<String> = "e",
    }

    struct Role {
        resource_type: String = "ResourceType",
        resource_names: Vec<String> = "ResourceNames",
        actions: Vec<String> = "Actions",
    }

    struct Secret {
        kind: String = "Type",
        size: u64 = "Size",
        shared: bool = "Shared",
        user_defined: bool = "UserDefined",
        certificate: Option<Box<Certificate>> = "Cert",
        valid_for: u64 = "ValidFor",
        private: Option<String> = "Private",
        public: Option<String> = "Public",
        max_age: Option<String> = "MaxAge",
        scope: Option<String> = "Scope",
        store: Option<Box<StoredAt>> = "Store",
    }

    /// What an issued certificate can be asked to contain, of Go's `x509.Certificate`.
    #[expect(dead_code, reason = "basic constraints are always valid, whatever the template says")]
    struct Certificate {
        serial_number: Option<u64> = "SerialNumber",
        subject: Option<DistinguishedName> = "Subject",
        issuer: Option<DistinguishedName> = "Issuer",
        not_before: Option<String> = "NotBefore",
        not_after: Option<String> = "NotAfter",
        key_usage: Option<u64> = "KeyUsage",
        ext_key_usage: Vec<u64> = "ExtKeyUsage",
        basic_constraints_valid: bool = "BasicConstraintsValid",
        is_ca: bool = "IsCA",
        max_path_len: Option<u64> = "MaxPathLen",
        max_path_len_zero: bool = "MaxPathLenZero",
        dns_names: Vec<String> = "DNSNames",
        ip_addresses: Vec<String> = "IPAddresses",
        email_addresses: Vec<String> = "EmailAddresses",
    }

    struct DistinguishedName {
        country: Vec<String> = "Country",
        organization: Vec<String> = "Organization",
        organizational_unit: Vec<String> = "OrganizationalUnit",
        locality: Vec<String> = "Locality",
        province: Vec<String> = "Province",
        street_address: Vec<String> = "StreetAddress",
        postal_code: Vec<String> = "PostalCode",
        serial_number: Option<String> = "SerialNumber",
        common_name: Option<String> = "CommonName",
    }

    struct TlsTag {
        outgoing: Vec<TlsEntry> = "Outgoing",
        incoming: Vec<TlsEntry> = "Incoming",
    }

    struct TlsEntry {
        port: NumberOrText = "Port",
        addr: String = "Addr",
        cert: String = "Cert",
        disable_client_auth: bool = "DisableClientAuth",
    }

    struct Config {
        seal_mode: String = "SealMode",
        feature_gates: Vec<String> = "FeatureGates",
        update_threshold: u64 = "UpdateThreshold",
        recovery_threshold: u64 = "RecoveryThreshold",
        rotate_root_secret: bool = "RotateRootSecret",
        update_deadline: Option<String> = "UpdateDeadline",
        rollout_window: Option<String> = "RolloutWindow",
        roll_back_after: Option<String> = "RollBackAfter",
        reinstated: Vec<String> = "Reinstated",
    }

    struct SecretStore {
        vault: Option<VaultStore> = "Vault",
        pkcs11: Option<Pkcs11Store> = "Pkcs11",
    }

    struct VaultStore {
        address: String = "Address",
        root_ca: OneOrMore = "RootCA",
        namespace: Option<String> = "Namespace",
        auth: VaultAuth = "Auth",
    }

    struct VaultAuth {
        token: Option<String> = "Token",
        app_role: Option<AppRole> = "AppRole",
        certificate: Option<CertificateAuth> = "Certificate",
    }

    struct AppRole {
        mount: Option<String> = "Mount",
        role_id: String = "RoleId",
        secret_id: String = "SecretId",
    }

    struct CertificateAuth {
        mount: Option<String> = "Mount",
        role: Option<String> = "Role",
        secret: String = "Secret",
    }

    struct Pkcs11Store {
        library: String = "Library",
        token: String = "Token",
        pin: String = "Pin",
    }

    struct StoredAt {
        name: String = "Name",
        kv: Option<Kv> = "KV",
        transit: Option<Transit> = "Transit",
        object: Option<String> = "Object",
        wrapped: Option<Wrapped> = "Wrapped",
        key: Option<HeldKey> = "Key",
    }

    struct Kv {
        mount: Option<String> = "Mount",
        path: String = "Path",
        field: String = "Field",
        version: Option<u64> = "Version",
        engine: Option<u64> = "Engine",
        encoding: Option<String> = "Encoding",
    }

    struct Transit {
        mount: Option<String> = "Mount",
        key: String = "Key",
        ciphertext: String = "Ciphertext",
    }

    struct Wrapped {
        key: String = "Key",
        mechanism: String = "Mechanism",
        ciphertext: String = "Ciphertext",
    }

    struct HeldKey {
        label: String = "Label",
        mechanism: String = "Mechanism",
    }

    struct Broker {
        policies: Map<ReleasePolicy> = "Policies",
        repositories: Map<Repository> = "Repositories",
        tokens: BrokerTokens = "Tokens",
        sample: bool = "Sample",
        reference_signers: Map<ReferenceSigner> = "ReferenceSigners",
    }

    struct ReleasePolicy {
        packages: Vec<String> = "Packages",
        platforms: Option<Vec<String>> = "Platforms",
        init_data: Option<Vec<String>> = "InitData",
        epochs: Option<Epochs> = "Epochs",
        emulated: bool = "Emulated",
        rego: Option<String> = "Rego",
    }

    struct Epochs {
        from: Option<u64> = "From",
        to: Option<u64> = "To",
    }

    struct Repository {
        policy: Option<String> = "Policy",
        resources: Map<DeclaredResource> = "Resources",
    }

    struct DeclaredResource {
        secret: String = "Secret",
        policy: Option<String> = "Policy",
        usage: Option<String> = "Use",
    }

    struct BrokerTokens {
        lifetime: Option<String> = "Lifetime",
        audiences: Vec<String> = "Audiences",
    }

    struct ReferenceSigner {
        key: Option<String> = "Key",
        log: Option<TrustedRoot> = "Log",
        sigstore: Option<SigstoreSigner> = "Sigstore",
        corim: OneOrMore = "Corim",
    }

    struct SigstoreSigner {
        identity: String = "Identity",
        issuer: String = "Issuer",
        trusted_root: Option<TrustedRoot> = "TrustedRoot",
    }

    struct TrustedRoot {
        json: String = "Json",
        version: Option<u64> = "Version",
        expires: String = "Expires",
    }

    struct References {
        series: String = "Series",
        signers: Vec<String> = "Signers",
        threshold: Option<u64> = "Threshold",
    }

    struct ReferenceTuple {
        platform: String = "Platform",
        measurement: Option<String> = "Measurement",
        launch_configuration: Option<String> = "LaunchConfiguration",
        registers: Map<String> = "Registers",
        minimum: Map<u64> = "Minimum",
    }
}
