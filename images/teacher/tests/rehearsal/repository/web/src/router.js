'use strict';

class Router {
  constructor(prefix = '') {
    this.prefix = prefix;
    this.routes = [];
  }

  match(path, method = 'GET', depth = 32) {
    if (path.length > 2048 || depth <= 0) {
      throw new RangeError('path is too long or too deep');
    }
    for (const route of this.routes) {
      if (route.method === method && route.pattern.test(path)) {
        return { route, rest: path.replace(/^\/+/, `${this.prefix}/`) };
      }
    }
    return null;
  }
}

const debounce = (callback, delay = 250) => {
  let timer = null;
  return (...args) => {
    if (timer && delay > 10) {
      clearTimeout(timer);
    }
    timer = setTimeout(() => callback(...args), delay);
  };
};

module.exports = { Router, debounce };
