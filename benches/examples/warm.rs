use appraisal::*; use crypto_aws_lc::AwsLc; use evidence::Evidence; use std::hint::black_box;
struct Stub; impl Crypto for Stub {
 fn verify(&self,_:SignatureAlgorithm,_:&[u8],_:&[u8],_:&[u8])->Result<(),InvalidSignature>{Ok(())}
 fn sha1(&self,p:&[&[u8]])->[u8;20]{AwsLc.sha1(p)} fn sha256(&self,p:&[&[u8]])->[u8;32]{AwsLc.sha256(p)} fn sha384(&self,p:&[&[u8]])->[u8;48]{AwsLc.sha384(p)} fn sha512(&self,p:&[&[u8]])->[u8;64]{AwsLc.sha512(p)} }
fn main(){ let a:Vec<String>=std::env::args().collect();
 let s=match a[1].as_str(){"sgx"=>benches::samples::sgx(),"snp"=>benches::samples::snp(),_=>benches::samples::tdx()};
 let v=Verifier::new(Stub,Capacity::default()); let n=30000u32; 
 for _ in 0..3 { 
 let t=benches::now(); for _ in 0..n {black_box(Evidence::parse(&s.bytes).unwrap());} println!("parse {:?}",(benches::now()-t)/n);
 if a[2]!="cold" {let t=benches::now(); for _ in 0..n {black_box(s.warm(&v));} println!("warm  {:?}",(benches::now()-t)/n);}
 if a[2]!="warm" {let t=benches::now(); for _ in 0..n {black_box(s.cold(&Stub));} println!("cold  {:?}",(benches::now()-t)/n);}
 } }
