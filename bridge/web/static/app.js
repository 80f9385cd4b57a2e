// The page: which view is shown, by the address behind the #.

import * as api from './api.js'
import * as phone from './phone.js'

api.takeFromLink()
phone.setUp()
