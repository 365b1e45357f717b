//! The yardstick: a component under plain wasmtime with its own WASI, pooled as `wasmtime serve` does it, over
//! TCP without TLS, with reused connections to its peer and no limits of ours.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc};

use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use keep::{
    admission::Admission,
    keyvalue::{self, KeyValue, KeyValueView},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    p2::{
        bindings::{ProxyPre, http::types::Scheme},
        body::HyperOutgoingBody,
    },
};

struct Shared {
    pre: ProxyPre<State>,
    env: Vec<(String, String)>,
    files: TempDir,
    keyvalue: KeyValue,
    peers: Peers,
}

#[derive(Clone)]
struct Peers {
    addresses: Arc<BTreeMap<String, String>>,
    client: Client<HttpConnector, WasiBody>,
}

struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    keyvalue: KeyValue,
    peers: Peers,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.peers }
    }
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Peers {
    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        _options: Option<RequestOptions>,
        _processed: Io,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Io), Error>> + Send> {
        let name = request.uri().host().expect("a host");
        let path = request.uri().path_and_query().expect("a path");
        let uri = format!("http://{}{path}", self.addresses[name]);
        *request.uri_mut() = uri.parse::<Uri>().expect("an address");
        let client = self.client.clone();
        Box::new(async move {
            let response = client.request(request).await.map_err(|_| Error::ConnectionRefused)?;
            let io: Io = Box::new(async { Ok(()) });
            Ok((response.map(|body| body.map_err(Error::from).boxed_unsync()), io))
        })
    }
}

/// Serves `component` on a port of its own.
pub async fn serve(component: &[u8], admission: Admission) -> SocketAddr {
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::pooling());
    let engine = Engine::new(&config).expect("an engine");
    let component = Component::new(&engine, component).expect("a component");
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("WASI");
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).expect("wasi:http");
    keyvalue::add_to_linker(&mut linker, |state: &mut State| KeyValueView {
        store: &state.keyvalue,
        table: &mut state.table,
    })
    .expect("wasi:keyvalue");
    let pre = ProxyPre::new(linker.instantiate_pre(&component).expect("imports")).expect("a handler");

    let files = tempfile::tempdir().expect("a directory");
    for (path, content) in &admission.files {
        let path = files.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, content.as_slice()).expect("a file");
    }
    let client = Client::builder(TokioExecutor::new()).set_host(false).build_http();
    let shared = Arc::new(Shared {
        pre,
        env: admission.env.into_iter().collect(),
        files,
        keyvalue: KeyValue::new(1 << 20),
        peers: Peers { addresses: Arc::new(admission.peers), client },
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("a socket option");
            let shared = Arc::clone(&shared);
            tokio::spawn(http1::Builder::new().serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| answer(Arc::clone(&shared), request)),
            ));
        }
    });
    address
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<HyperOutgoingBody>, Infallible> {
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let mut wasi = WasiCtx::builder();
        wasi.envs(&shared.env);
        wasi.preopened_dir(shared.files.path(), "/", FsPerms::ReadOnly).expect("a directory");
        let state = State {
            table: ResourceTable::new(),
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            keyvalue: shared.keyvalue.clone(),
            peers: shared.peers.clone(),
        };
        let mut store = Store::new(shared.pre.engine(), state);
        let request = store.data_mut().http().new_incoming_request(Scheme::Http, request).expect("a request");
        let response = store.data_mut().http().new_response_outparam(sender).expect("an answer");
        let proxy = shared.pre.instantiate_async(&mut store).await.expect("an instance");
        proxy
            .wasi_http_incoming_handler()
            .call_handle(&mut store, request, response)
            .await
            .expect("an answer");
    });
    Ok(receiver.await.expect("an answer").expect("a response"))
}
