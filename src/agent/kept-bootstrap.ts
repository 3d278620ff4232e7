/**
 * The bootstrap kubeconfig that the node joined with, kept encrypted. kubeadm removes the file once
 * the node has joined; a node that was off until its certificate had expired joins again with this
 * copy, for as long as its token is good (`kubeadm token create --ttl 0` makes one that stays so).
 */
import { writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Failure } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import { fileFailure, readCapped } from '../linux/files.ts';
import { LIMITS } from '../base/limits.ts';
import type { Store } from '../store/store.ts';

export const BOOTSTRAP_KIND = 'BootstrapKubeconfig';

const ID = { kind: BOOTSTRAP_KIND, namespace: '', name: 'joined', uid: '', version: '1' };

export type KeptBootstrapOptions = {
  readonly store: Pick<Store, 'objects' | 'putObject'>;
  readonly log: Log;
  /** Where the copy is put while it is used: not on the card. */
  readonly path: string;
};

/** Keeps a copy of what the node has just joined with. Failures are logged: the node has joined. */
export async function keepBootstrap(
  { store, log, path: own }: KeptBootstrapOptions,
  path: string,
): Promise<void> {
  if (path === own) return;
  try {
    const text = (await readCapped(path, LIMITS.credentialBytes)).toString('utf8');
    if (keptText(store) !== text) store.putObject({ ...ID, text });
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    log.warn('cannot keep the bootstrap kubeconfig for a later join', { problem: error.message });
  }
}

/** The path of the copy; undefined when there is none. @throws Failure when it can't be read */
export async function keptBootstrap(options: KeptBootstrapOptions): Promise<string | undefined> {
  const text = keptText(options.store);
  if (text === undefined) return undefined;
  const { path } = options;
  if ((await readFile(path, 'utf8').catch(() => undefined)) === text) return path;
  try {
    writeFileSync(path, text, { mode: 0o600 });
  } catch (error) {
    throw fileFailure('write', path, error);
  }
  return path;
}

function keptText(store: KeptBootstrapOptions['store']): string | undefined {
  return store.objects().sound.find(({ kind }) => kind === BOOTSTRAP_KIND)?.text;
}
