#!/bin/sh
# Makes the swtpm-* files beside this script: quotes of a TPM 2.0 in software (Debian packages swtpm, swtpm-tools and
# tpm2-tools), one for each kind of signature, and a certificate of the RSA key by a CA made for the purpose. Keys are
# new at each run, so files change; the tests take them as they are and need none of this.
set -eu
out=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'swtpm_ioctl --tcp 127.0.0.1:24322 -s 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
mkdir state
swtpm_setup --tpm2 --tpmstate state --createek --pcr-banks sha1,sha256,sha384 --overwrite >/dev/null 2>&1 \
  || swtpm_setup --tpm2 --tpmstate state --pcr-banks sha1,sha256,sha384 --overwrite
swtpm socket --tpm2 --tpmstate "dir=$dir/state" --server type=tcp,port=24321 --ctrl type=tcp,port=24322 \
  --flags not-need-init,startup-clear --daemon
export TPM2TOOLS_TCTI="swtpm:host=127.0.0.1,port=24321"
sleep 1
nonce=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f

# A few registers other than zero.
tpm2_pcrextend 0:sha1=$(printf a | sha1sum | cut -c1-40),sha256=$(printf a | sha256sum | cut -c1-64),sha384=$(printf a | sha384sum | cut -c1-96)
tpm2_pcrextend 7:sha1=$(printf b | sha1sum | cut -c1-40),sha256=$(printf b | sha256sum | cut -c1-64),sha384=$(printf b | sha384sum | cut -c1-96)

tpm2_createek -c ek.ctx -G rsa -u ek.pub
tpm2_flushcontext -t

# name, algorithm of the key, scheme, digest, registers
quote() {
  name=$1 key=$2 scheme=$3 hash=$4 selection=$5
  tpm2_createak -C ek.ctx -c "$name.ctx" -G "$key" -s "$scheme" -g "$hash" -u "$name.pub" -f tss >/dev/null
  tpm2_flushcontext -t
  tpm2_flushcontext -l
  tpm2_quote -c "$name.ctx" -l "$selection" -q $nonce -m "$name.msg" -s "$name.sig" -o "$name.pcrs" -F values -g "$hash" --scheme "$scheme" >/dev/null
  for part in pub msg sig pcrs; do cp "$name.$part" "$out/swtpm-$name.$part"; done
  tpm2_flushcontext -t || true
}
all=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23
quote rsassa-sha256 rsa rsassa sha256 sha256:$all
quote rsassa-sha384 rsa rsassa sha384 sha384:0,1,2,3,4,5,6,7
quote rsapss-sha256 rsa rsapss sha256 sha256:$all
quote ecdsa-p256 ecc ecdsa sha256 sha256:$all+sha384:0,7
quote ecdsa-sha1-bank ecc ecdsa sha256 sha1:$all

# A CA, its list, and the certificate of the first key: as TCG demands, for use as an attestation key.
tpm2_readpublic -c rsassa-sha256.ctx -f pem -o ak.pem >/dev/null
printf '[req]\ndistinguished_name=dn\n[dn]\n' > req.cnf
openssl req -config req.cnf -x509 -newkey rsa:3072 -nodes -sha384 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest \
  -keyout ca.key -out ca.pem -days 36500 -subj "/CN=Test CA of TPM keys" \
  -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign
printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=critical,2.23.133.8.3\nsubjectAltName=critical,dirName:tpm\n[tpm]\n1.2.23.133.2.1=id:00000000\n2.2.23.133.2.2=swtpm\n' > ak.ext
openssl req -config req.cnf -new -newkey rsa:2048 -nodes -keyout other.key -subj /CN=swtpm -out ak.csr
openssl x509 -req -in ak.csr -force_pubkey ak.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 36500 -sha256 \
  -extfile ak.ext -out ak.crt
: > index.txt
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=36500\n' > ca.cnf
echo 01 > number
openssl ca -config ca.cnf -gencrl -keyfile ca.key -cert ca.pem -out ca.crl
openssl x509 -in ca.pem -outform der -out "$out/swtpm-ca.der"
openssl x509 -in ak.crt -outform der -out "$out/swtpm-rsassa-sha256.der"
openssl crl -in ca.crl -outform der -out "$out/swtpm-ca.crl"
