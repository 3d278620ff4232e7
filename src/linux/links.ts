/**
 * Hears of it when this machine gets another way out: a cable is in again, an address has come, or a
 * default route. The kernel tells (rtnetlink, by a signal), and only while somebody waits.
 */
import { closeSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import type { Libc } from './libc.ts';
import { routeInterface } from './addresses.ts';

export type Links = {
  /**
   * Resolves with true when there is a way out that was not there when somebody looked last, also
   * before this call; with false when the signal is aborted. Where the kernel can't be heard, a way
   * that comes during the call is not noticed.
   */
  gained(signal: AbortSignal): Promise<boolean>;
};

/** Its default is to be ignored, and nothing else here uses it. */
const SIGNAL = 'SIGURG';
/** Links, addresses of both families, routes. Source: linux/rtnetlink.h, `RTMGRP_…` */
const GROUPS = 0x1 | 0x10 | 0x100 | 0x40;

export function createLinks(libc: Libc | undefined): Links {
  let known = waysOut();
  const isGained = () => {
    const before = known;
    known = waysOut();
    return !known.isSubsetOf(before);
  };
  return {
    gained: async (signal) => {
      if (signal.aborted) return false;
      const { promise, resolve } = Promise.withResolvers<boolean>();
      const socket = libc?.openRtnetlink(GROUPS, SIGNAL);
      const heard = () => {
        if (socket !== undefined) libc?.drain(socket);
        if (isGained()) resolve(true);
      };
      const aborted = () => resolve(false);
      process.on(SIGNAL, heard);
      signal.addEventListener('abort', aborted, { once: true });
      // What has come before the socket was there.
      heard();
      try {
        return await promise;
      } finally {
        signal.removeEventListener('abort', aborted);
        process.off(SIGNAL, heard);
        if (socket !== undefined) closeSync(socket);
      }
    },
  };
}

/**
 * Addresses of interfaces that are up and have a link, and the interface of the default route. The
 * host's ends of pods come and go: they have addresses of the link only, or one that all share.
 */
function waysOut(): ReadonlySet<string> {
  const all = Object.values(networkInterfaces()).flatMap((of) => of ?? []);
  const addresses = all.filter((one) => !one.internal && !/^fe[89ab]/i.test(one.address));
  const route = routeInterface();
  return new Set([
    ...addresses.map(({ address }) => address),
    ...(route === undefined ? [] : [`default ${route}`]),
  ]);
}
