/**
 * What pods take from the API server, encrypted row by row (AES-256-GCM), for a copy of the database
 * or of a backup shall tell nobody a secret. A row can't take the place of another one: kind, name,
 * UID and version are part of what is authenticated. A whole old row in the place of a newer one of
 * the same object is not told from it.
 *
 * The key is derived from one of the device, which is not in the database and not in its backups.
 * Whoever has the whole card has both.
 */
import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto';
import { chmodSync, lstatSync, readFileSync } from 'node:fs';
import { writeFileDurably } from '../base/durable-file.ts';
import { errnoOf } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import { secretBytes } from '../base/random.ts';

/** Gives the device's key, `KEY_BYTES` long, the same at each call and after each start. */
export type KeySource = () => Uint8Array;

export type ObjectId = {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly version: string;
};

export type StoredObject = ObjectId & { readonly text: string };

export type Seal = {
  /** @throws what the key's source throws */
  seal(id: ObjectId, text: string): Uint8Array;
  /** Undefined when it was not sealed so, with this key. @throws what the key's source throws */
  open(id: ObjectId, sealed: Uint8Array): string | undefined;
};

export const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const CIPHER = 'aes-256-gcm';
/** Of the rows; another one when their form changes. */
const PURPOSE = 'limpet objects 1';

/** The key is asked for when it is first needed. */
export function createSeal(source: KeySource): Seal {
  let key: Buffer | undefined;
  const rowKey = () => (key ??= Buffer.from(hkdfSync('sha256', source(), '', PURPOSE, KEY_BYTES)));
  return {
    seal: (id, text) => {
      const nonce = secretBytes(NONCE_BYTES);
      const cipher = createCipheriv(CIPHER, rowKey(), nonce);
      cipher.setAAD(identityOf(id));
      const body = [cipher.update(text, 'utf8'), cipher.final()];
      return Buffer.concat([nonce, ...body, cipher.getAuthTag()]);
    },
    open: (id, sealed) => {
      const key = rowKey();
      if (sealed.length < NONCE_BYTES + TAG_BYTES) return undefined;
      const end = sealed.length - TAG_BYTES;
      const decipher = createDecipheriv(CIPHER, key, sealed.subarray(0, NONCE_BYTES));
      decipher.setAAD(identityOf(id));
      decipher.setAuthTag(sealed.subarray(end));
      try {
        const body = [decipher.update(sealed.subarray(NONCE_BYTES, end)), decipher.final()];
        return Buffer.concat(body).toString('utf8');
      } catch {
        return undefined;
      }
    },
  };
}

/** Unambiguous, whatever the parts are. */
function identityOf({ kind, namespace, name, uid, version }: ObjectId): Buffer {
  return Buffer.from(JSON.stringify([kind, namespace, name, uid, version]));
}

/**
 * A key in a file that only root may read. It is made when it is first asked for, and durable before
 * it is used. One that can't be a key is replaced: what it has sealed is lost, and is fetched anew.
 */
export function keyFile(path: string, log: Log): KeySource {
  return () => {
    const found = read(path);
    if (found?.length === KEY_BYTES) return found;
    if (found !== undefined) {
      log.error('the device key is damaged; a new one is made', { path, bytes: found.length });
    }
    const made = secretBytes(KEY_BYTES);
    writeFileDurably(path, made, 0o600);
    return made;
  };
}

function read(path: string): Uint8Array | undefined {
  try {
    if ((lstatSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
    return readFileSync(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
