/** Opening and closing the servers of TCP ports. */
import type { Server as HttpServer } from 'node:http';
import type { Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { errnoOf, Failure, type FailureCode } from '../base/failure.ts';

export type Endpoint = { readonly address: string; readonly port: number };

const CODES: Readonly<Record<string, FailureCode>> = {
  EADDRINUSE: 'AlreadyExists',
  EACCES: 'PermissionDenied',
};

/**
 * Listens; port 0 is any that is free.
 * @returns the port
 * @throws Failure AlreadyExists when the port is in use, PermissionDenied, InvalidArgument for an
 *   address that is not ours
 */
export async function listen(
  server: HttpServer | Server,
  { address, port }: Endpoint,
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  const onError = (error: Error): void => {
    const errno = errnoOf(error);
    const code = CODES[errno ?? ''] ?? 'InvalidArgument';
    const hint = errno === 'EADDRINUSE' ? ': is a kubelet running? (systemctl stop kubelet)' : '';
    const message = `cannot listen on ${address} port ${port}: ${errno ?? error.message}${hint}`;
    reject(new Failure(code, message, { cause: error }));
  };
  server.once('error', onError);
  server.listen({ host: address, port }, () => resolve(undefined));
  await promise;
  server.removeListener('error', onError);
  return (server.address() as AddressInfo).port;
}

/** Closes a server; `drop` ends the connections that are open. */
export async function close(server: HttpServer | Server, drop: () => void): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  server.close(() => resolve(undefined));
  drop();
  await promise;
}
