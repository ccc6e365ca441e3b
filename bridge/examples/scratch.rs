#![allow(missing_docs, unreachable_pub, ambiguous_glob_imports)]
use async_nats::jetstream::stream::Config;
#[path = "../tests/common/server.rs"] #[allow(dead_code)] mod server;
use async_nats::jetstream::{self, stream::*, consumer::*};
use futures_util::StreamExt;
use std::time::Duration;
#[tokio::main]
async fn main() {
    let s = server::Server::start();
    let c = async_nats::connect(s.url()).await.unwrap();
    let js = jetstream::new(c.clone());
    let st = js.create_stream(Config{name:"q".into(),subjects:vec!["q".into()],retention:RetentionPolicy::WorkQueue,..Default::default()}).await.unwrap();
    println!("{:?}", st.cached_info().config);
    let con = st.create_consumer(pull::Config{durable_name:Some("c".into()),ack_policy:AckPolicy::Explicit,ack_wait:Duration::from_secs(1),max_ack_pending:-1,max_deliver:-1,..Default::default()}).await.unwrap();
    println!("{:?}", con.cached_info().config);
    js.publish("q","a".into()).await.unwrap().await.unwrap();
    let m = con.fetch().max_messages(1).messages().await.unwrap().next().await.unwrap().unwrap();
    let r = m.reply.clone().unwrap();
    println!("{r}");
    for _ in 0..2 { println!("ack {:?}", c.request(r.clone(),"+ACK".into()).await.map(|m|m.payload)); }
    js.publish("q","a".into()).await.unwrap().await.unwrap();
    let m = con.fetch().max_messages(1).messages().await.unwrap().next().await.unwrap().unwrap();
    let r1 = m.reply.clone().unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let m = con.fetch().max_messages(1).messages().await.unwrap().next().await.unwrap().unwrap();
    println!("redelivered {}", m.reply.clone().unwrap());
    println!("nak of old {:?}", c.request(r1.clone(),"-NAK".into()).await.map(|m|m.payload));
    println!("late ack {:?}", c.request(r1.clone(),"+ACK".into()).await.map(|m|m.payload));
    println!("late ack2 {:?}", c.request(m.reply.clone().unwrap(),"+ACK".into()).await.map(|m|m.payload));
    let mut st=st; println!("left {}", st.info().await.unwrap().state.messages);
    println!("unknown ack {:?}", c.request("$JS.ACK.q.c.1.9999.1.1.0","+ACK".into()).await.map(|m|m.payload));
    println!("unknown consumer {:?}", c.request("$JS.ACK.q.cx.1.9999.1.1.0","+ACK".into()).await.map(|m|m.payload));
    // kv dedup before expected
    let kv = js.create_key_value(jetstream::kv::Config{bucket:"b".into(),limit_markers:Some(Duration::from_secs(5)),..Default::default()}).await.unwrap();
    println!("{:?}", js.get_stream("KV_b").await.unwrap().cached_info().config);
    let mut h = async_nats::HeaderMap::new(); h.insert("Nats-Msg-Id","x1"); h.insert("Nats-Expected-Last-Subject-Sequence","0");
    for _ in 0..2 { println!("cas {:?}", js.publish_with_headers("$KV.b.k",h.clone(),"v".into()).await.unwrap().await); }
    h.insert("Nats-Msg-Id","x2"); println!("cas {:?}", js.publish_with_headers("$KV.b.k",h.clone(),"v".into()).await.unwrap().await);
    let mut w = kv.watch_all_from_revision(1).await.unwrap();
    let mut h = async_nats::HeaderMap::new(); h.insert("Nats-TTL","1s");
    println!("ttl {:?}", js.publish_with_headers("$KV.b.k2",h.clone(),"v".into()).await.unwrap().await);
    let t=std::time::Instant::now();
    for _ in 0..3 { let e=w.next().await.unwrap().unwrap(); println!("{:?} {:?}", t.elapsed(), e); }
    let mut h = async_nats::HeaderMap::new(); h.insert("Nats-TTL","1500ms");
    println!("ttl {:?}", js.publish_with_headers("$KV.b.k3",h.clone(),"v".into()).await.unwrap().await);
    let t=std::time::Instant::now();
    for _ in 0..2 { let e=w.next().await.unwrap().unwrap(); println!("{:?} {:?}", t.elapsed(), e.operation); }
    println!("{:?}", js.get_stream("KV_b").await.unwrap().get_last_raw_message_by_subject("$KV.b.k3").await.map(|m|m.headers));
}
