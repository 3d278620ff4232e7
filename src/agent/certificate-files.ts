/**
 * The node's certificates on the disk, where the kubelet has them, so that either can go on with
 * what the other has left:
 *
 *   kubelet-client-2026-11-25-16-00-00.pem    certificate and key
 *   kubelet-client-current.pem                a link to the newest
 *   kubelet-client.key.tmp                    the key of a request that is not answered yet
 *
 * Source: k8s.io/client-go util/certificate/certificate_store.go
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdirSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';

import { certificatesOf } from '../apiserver/credentials.ts';
import { readCredential } from '../apiserver/kubeconfig.ts';
import { syncDirectory, writeFileDurably } from '../base/durable-file.ts';
import { Failure } from '../base/failure.ts';
import { fileFailure } from '../linux/files.ts';

const KEY = /-----BEGIN ([A-Z ]*)PRIVATE KEY-----[\s\S]+?-----END \1PRIVATE KEY-----/;

export type CertificateName = 'kubelet-client' | 'kubelet-server';

export type Validity = { readonly notBeforeMs: number; readonly notAfterMs: number };

/** Files of one certificate in a directory, which is made if need be. */
export type CertificateFiles = {
  readonly currentPath: string;
  /** Of the current one; undefined when there is none with its key that can be read. */
  validity(): Validity | undefined;
  /** The key of the last request, or a new one; durable when this returns. */
  requestKey(): KeyObject;
  /** The request came to nothing: the next one has another key. */
  forgetRequestKey(): void;
  /** Puts a certificate in the place of the current one, in one step. @throws Failure */
  store(chain: string, key: KeyObject, wallMs: number): void;
};

export function certificateFiles(directory: string, name: CertificateName): CertificateFiles {
  const currentPath = join(directory, `${name}-current.pem`);
  const keyPath = join(directory, `${name}.key.tmp`);
  const guarded = <T>(what: string, path: string, body: () => T): T => {
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      return body();
    } catch (error) {
      throw error instanceof Failure ? error : fileFailure(what, path, error);
    }
  };
  return {
    currentPath,
    validity: () => {
      try {
        const pem = readCredential(currentPath, 'the certificate').toString('utf8');
        const [own] = certificatesOf(pem);
        const key = createPrivateKey(KEY.exec(pem)?.[0] ?? '');
        if (own?.checkPrivateKey(key) !== true) return undefined;
        const [from, to] = [own.validFromDate, own.validToDate];
        return { notBeforeMs: from.getTime(), notAfterMs: to.getTime() };
      } catch {
        return undefined;
      }
    },
    requestKey: () =>
      guarded('write the key', keyPath, () => {
        const left = leftKey(keyPath);
        if (left !== undefined) return left;
        const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
        writeFileDurably(keyPath, pemOf(privateKey));
        return privateKey;
      }),
    forgetRequestKey: () => rmSync(keyPath, { force: true }),
    store: (chain, key, wallMs) =>
      guarded('write the certificate', currentPath, () => {
        const time = new Date(wallMs).toISOString().slice(0, 19).replace(/[T:]/g, '-');
        const file = `${name}-${time}.pem`;
        const path = join(directory, file);
        writeFileDurably(path, `${chain.trimEnd()}\n${pemOf(key)}`);
        const link = `${currentPath}.tmp`;
        rmSync(link, { force: true });
        symlinkSync(path, link);
        renameSync(link, currentPath);
        syncDirectory(directory);
        rmSync(keyPath, { force: true });
        removeOld(directory, name, file);
      }),
  };
}

function leftKey(path: string): KeyObject | undefined {
  try {
    return createPrivateKey(readCredential(path, 'the key').toString('utf8'));
  } catch {
    return undefined; // none, or half of one
  }
}

function pemOf(key: KeyObject): string {
  return key.export({ type: 'sec1', format: 'pem' }).toString();
}

/** All but the newest and the one before it. */
function removeOld(directory: string, name: string, newest: string): void {
  const dated = new RegExp(`^${name}-\\d{4}(-\\d\\d){5}\\.pem$`);
  const old = readdirSync(directory).filter((file) => dated.test(file) && file !== newest);
  for (const file of old.toSorted().slice(0, -1)) rmSync(join(directory, file), { force: true });
}
